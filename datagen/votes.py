"""Find what most of several draws say."""

from __future__ import annotations

from collections.abc import Mapping


def majority(votes: Mapping[str, int], draws: int, least: float) -> tuple[str | None, str | None]:
    """What most draws say, and why it may not be used where it may not.

    Args:
        votes: Draws by what they say.
        draws: All draws, also those that say nothing.
        least: The least share of all draws that have to agree, 0..1.

    Returns:
        The winner, and None; or None, and the reason.
    """
    if not votes:
        return None, "no draw gives an answer"
    most = max(votes.values())
    leaders = [said for said, count in votes.items() if count == most]
    if len(leaders) > 1:
        return None, f"no majority: {len(leaders)} answers have {most} of {draws} draws each"
    if most < least * draws:
        return None, f"{most} of {draws} draws agree, fewer than min_agreement = {least:g}"
    return leaders[0], None
