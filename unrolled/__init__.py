"""Networks that unroll a solver, CNN post-processing, and the engine that trains them."""
