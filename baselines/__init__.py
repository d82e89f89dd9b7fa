"""Direct inversions, sparsity solvers and their tuning."""
