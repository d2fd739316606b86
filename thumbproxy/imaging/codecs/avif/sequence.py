"""How large the frames of an AV1 stream can be, as its sequence header says.

That is what a decoder allocates by, whatever the file around it says.
"""

from __future__ import annotations

from thumbproxy.core.errors import BrokenImage

_SEQUENCE_HEADER, _TEMPORAL_DELIMITER, _METADATA, _PADDING = 1, 2, 5, 15
# What may stand before it; of these there are one or two.
_BEFORE = (_TEMPORAL_DELIMITER, _METADATA, _PADDING)
_MOST_BEFORE = 8
# How much of a stream is needed to read it.
BEGINNING = 4096


def largest_frame(stream: bytes) -> tuple[int, int]:
    """Width and height in the first sequence header of a stream (AV1 sections 5.3 and 5.5).

    stream: its first BEGINNING bytes, or all of it. Raises BrokenImage where there is none.
    """
    at = 0
    for _ in range(_MOST_BEFORE):
        if at >= len(stream):
            break
        head = stream[at]
        kind = head >> 3 & 15
        extended, sized = head >> 2 & 1, head >> 1 & 1
        at += 1 + extended
        length = len(stream) - at
        if sized:
            length, at = _leb128(stream, at)
        if kind == _SEQUENCE_HEADER:
            return _frame_size(_Bits(stream[at : at + length]))
        if kind not in _BEFORE:
            break
        at += length
    raise BrokenImage(log="an AV1 stream without a sequence header")


def _leb128(stream: bytes, at: int) -> tuple[int, int]:
    """A number of section 4.10.5, and what comes after it."""
    value = 0
    for place in range(8):
        if at >= len(stream):
            break
        byte = stream[at]
        at += 1
        value |= (byte & 0x7F) << 7 * place
        if not byte & 0x80:
            return value, at
    raise BrokenImage(log="an AV1 stream that is cut short")


class _Bits:
    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise BrokenImage(log="a sequence header that is cut short")
        return self._value >> self._left & (1 << count) - 1

    def exponential(self) -> None:
        """Pass over a number of section 4.10.3."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros == 32:
                return
        self.take(zeros)


def _frame_size(bits: _Bits) -> tuple[int, int]:
    """Section 5.5.1, up to the size."""
    bits.take(4)  # seq_profile, still_picture
    if bits.take(1):  # reduced_still_picture_header
        bits.take(5)
    else:
        _pass_operating_points(bits)
    across, down = bits.take(4) + 1, bits.take(4) + 1
    return bits.take(across) + 1, bits.take(down) + 1


def _pass_operating_points(bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):  # timing_info_present_flag
        bits.take(64)
        if bits.take(1):  # equal_picture_interval
            bits.exponential()
        if bits.take(1):  # decoder_model_info_present_flag
            delay_bits = bits.take(5) + 1
            bits.take(42)
    delays_told = bits.take(1)  # initial_display_delay_present_flag
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > 7:  # seq_level_idx
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if delays_told and bits.take(1):
            bits.take(4)
