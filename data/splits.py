"""Which patient is in which split. Images follow their patient, so that none straddles two splits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

from .datasets import SPLITS


def by_lists(patients: Sequence[str], lists: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Patient → split by fixed lists; patients on no list are left out.

    Args:
        patients: of every image, in any order.
        lists: patients by split.

    Raises:
        ValueError: a patient on two lists, or on a list without being there.
    """
    assigned: dict[str, str] = {}
    present = set(patients)
    for split in SPLITS:
        for patient in lists.get(split, ()):
            if patient not in present:
                known = ", ".join(sorted(present)[:12])
                raise ValueError(f"patient {patient!r} of {split} has no image here; patients found: {known}")
            if assigned.setdefault(patient, split) != split:
                raise ValueError(f"patient {patient!r} is in {assigned[patient]} and in {split}; choose one")
    return assigned


def by_order(patients: Sequence[str], counts: Mapping[str, int]) -> dict[str, str]:
    """Patient → split in contiguous blocks: the first ``counts["train"]`` patients, then validation, then test.

    Patients count once, where their first image stands; those after the last block are left out.

    Raises:
        ValueError: fewer patients than the blocks need.
    """
    ordered = list(dict.fromkeys(patients))
    needed = sum(counts.get(split, 0) for split in SPLITS)
    if needed > len(ordered):
        raise ValueError(f"the blocks take {needed} patients, there are {len(ordered)}")
    splits = (split for split in SPLITS for _ in range(counts.get(split, 0)))
    return dict(zip(ordered, splits, strict=False))


def by_hash(patients: Sequence[str], seed: int, validation: float, test: float) -> dict[str, str]:
    """Patient → split by a hash of the patient: the same whatever other patients are there.

    u = SHA-256(seed, patient) / 2^256 is uniform on [0, 1); test below ``test``, validation below
    ``test + validation``, training above.

    Args:
        seed: another seed gives another split.
        validation, test: expected fractions of the patients.
    """
    if validation < 0 or test < 0 or validation + test > 1:
        raise ValueError(f"fractions are {validation} and {test}; expected numbers from 0 whose sum is at most 1")
    assigned = {}
    for patient in dict.fromkeys(patients):
        u = int.from_bytes(hashlib.sha256(f"{seed}:{patient}".encode()).digest(), "big") / 2**256
        assigned[patient] = "test" if u < test else "validation" if u < test + validation else "train"
    return assigned


def evenly(count: int, wanted: int | None) -> list[int]:
    """At most ``wanted`` of ``count`` positions, evenly spread; all where ``wanted`` is None."""
    if wanted is None or wanted >= count:
        return list(range(count))
    return [(2 * k + 1) * count // (2 * wanted) for k in range(wanted)]
