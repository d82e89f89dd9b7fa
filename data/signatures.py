"""How files say what they are, where no fixed magic number does."""

from __future__ import annotations


def is_bare_dicom(head: bytes) -> bool:
    """DICOM without preamble: begins with an element of group 2 or 8, explicit (a known VR) or implicit (short)."""
    group, element = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
    if group not in (2, 8) or element > 0x20 or len(head) < 128:
        return False
    return head[4:6] in (b"UL", b"OB", b"UI", b"CS", b"DA", b"SH") or int.from_bytes(head[4:8], "little") <= 64
