"""Write a comparison's verdict in plain sentences that claim no more than the data support."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from distill.contestants.contestant import is_control
from distill.evaluation.comparison import Comparison, Difference, speaker_of
from distill.evaluation.power import LEVEL, difference_sentence, found_sentence, loss_rates
from distill.evaluation.statistics import MIN_ITEMS, Interval
from warehouse.wording import be, format_count

SMALL = 30
"""Below so many common items a verdict says that n is small."""
METRIC_NAMES = {"exact_match": "exact match", "f1": "F1", "contains": "containment"}


def metric_name(metric: str) -> str:
    """A metric's name in running text."""
    return METRIC_NAMES.get(metric, metric.replace("_", " "))


def points(value: float) -> str:
    """A share as points (hundredths), one decimal; never "-0.0"."""
    return f"{round(100 * value, 1) + 0.0:.1f}"


def span(interval: Interval) -> str:
    """An interval in points, in words."""
    return f"95 % interval {points(interval.low)} to {points(interval.high)}"


def p_text(p_value: float) -> str:
    """A p value as readers expect it: "= 0.034" or "< 0.001"."""
    return "< 0.001" if p_value < 0.001 else f"= {p_value:.3f}"


def p_of(difference: Difference) -> float:
    """The p value that counts: after Holm where there were several tests in its family."""
    adjusted = difference.p_adjusted
    return difference.p_value if adjusted is None else adjusted


def is_clear(difference: Difference, metric: str) -> bool:
    """Whether the headline's interval leaves out zero and the test agrees at 0.05.

    Both go by the mean, so they never point opposite ways. Never with fewer than ten common items.
    """
    interval = difference.metrics[metric]
    leaves_out_zero = interval.low > 0 or interval.high < 0
    return difference.n >= MIN_ITEMS and leaves_out_zero and p_of(difference) < 0.05


def paired(
    comparison: Comparison, left: str, right: str, metric: str | None = None
) -> Difference | None:
    """Left minus right, whichever way round it was taken; None if not graded by the metric.

    The metric defaults to the headline.
    """
    pair = comparison.difference(left, right)
    if pair is None and (reverse := comparison.difference(right, left)):
        pair = replace(
            reverse,
            left=left,
            right=right,
            metrics={name: interval.negated() for name, interval in reverse.metrics.items()},
            wins=reverse.losses,
            losses=reverse.wins,
            fits=(reverse.fits[1], reverse.fits[0]),
            named=reverse.named and reverse.named.negated(),
        )
    return pair if pair and (metric or comparison.headline) in pair.metrics else None


def gain(comparison: Comparison, pair: Difference) -> float:
    """How much better left is than right in the headline; above zero is good for left."""
    value = pair.metrics[comparison.headline].value
    return value if comparison.higher_is_better else -value


def form_part(comparison: Comparison, rival: str) -> tuple[float, float] | None:
    """How much of the student's lead over a rival may be form, and the lead; both 0..1.

    Of choices and classes, an answer that names none of them is wrong for its form, whatever its
    writer knew: what the student gains on such items may be form. None where there is no lead, or
    where that part is a point or less.
    """
    pair = paired(comparison, "student", rival)
    if pair is None or pair.named is None or pair.n < MIN_ITEMS or not comparison.higher_is_better:
        return None
    lead = pair.metrics[comparison.headline].value
    return (pair.named.form, lead) if lead > 0 and pair.named.form > 0.01 else None


def form_points(part: tuple[float, float]) -> str:
    """A part of a lead that may be form, in points: "all" where it is the whole lead or more."""
    form, lead = (round(value, 3) for value in part)
    return "all" if form >= lead else points(form)


def form_doubt(comparison: Comparison, rival: str) -> str:
    """Words of doubt where a lead may be form, and is not clear by content alone; else empty.

    Clear is a lead whose 95 % interval leaves out zero, on ten items or more where both name an
    option.
    """
    pair, part = paired(comparison, "student", rival), form_part(comparison, rival)
    if pair is None or pair.named is None or part is None:
        return ""
    content = pair.named.content
    if content and pair.named.n >= MIN_ITEMS and content.low > 0:
        return ""
    share = "only" if form_points(part) == "all" else "mostly"
    return f", though perhaps {share} in form"


def best_of(comparison: Comparison, metric: str) -> list[str]:
    """Contestants with the best mean; several where they are equal, none where nobody was graded.

    One that failed on many items is not among them: its mean is of other items.
    """
    means = {
        s.contestant: s.metrics[metric].value
        for s in comparison.standings
        if metric in s.metrics and s.answered_most
    }
    if not means:
        return []
    best = (max if comparison.higher_is_better else min)(means.values())
    return [name for name, mean in means.items() if mean == best]


def evidence_of(pair: Difference, interval: Interval) -> str:
    """The evidence of a difference: its interval, the items and the test."""
    if pair.n < MIN_ITEMS:
        return f"n = {pair.n}, too few to claim anything"
    after = "" if pair.p_adjusted is None else " after Holm"
    return (
        f"{span(interval)}, {_items(pair)}, {_seeds(pair)}{pair.test} p {p_text(p_of(pair))}{after}"
    )


def _items(pair: Difference) -> str:
    """The items that a difference rests on, and in how many groups they are, if they are."""
    grouped = f" in {format_count(pair.groups, 'group')}" if pair.is_grouped else ""
    return f"n = {pair.n}{grouped}"


def _seeds(pair: Difference) -> str:
    """The training seeds that a difference covers, if it covers any."""
    if not pair.is_over_seeds:
        return ""
    numbers = sorted({n for n in pair.fits if n > 1})
    return f"{' and '.join(map(str, numbers))} seeds, "


def seeds_note(pair: Difference) -> str:
    """One sentence on the training seeds behind a student's difference: what they do not tell."""
    seeds = pair.fits[0]
    if seeds == 1:
        return "The student was trained once: another training seed may move its score by a few points."
    few = "; two tell little of what a third would change" if seeds == 2 else ""
    return f"The student's score is the mean over {seeds} training seeds{few}."


def verdict(comparison: Comparison) -> str:
    """Plain sentences: student against base, against teacher, training seeds, and warnings.

    'Beats' and 'is worse' are said only where the paired interval leaves out zero and
    the test gives p < 0.05 (after Holm over its family, see `compare.adjust_p_values`).
    """
    sentences = [_on_base(comparison), _on_teacher(comparison)]
    pair = comparison.difference("student", "base")
    if pair and comparison.headline in pair.metrics and comparison.headline != "contains":
        contained = pair.metrics.get("contains")
        if contained and contained.value < 0 and _rose(comparison, pair):
            lost = ", and some right answers were lost" if contained.high < 0 else ""
            sentences.append(
                f"Containment of the reference fell by {points(-contained.value)} points at the same "
                f"time ({span(contained)}): part of the gain is the form of the answers{lost}."
            )
        elif contained and contained.high < 0:
            sentences.append(
                f"Containment of the reference fell by {points(-contained.value)} points "
                f"({span(contained)}): right answers were lost."
            )
    sizes = [
        d.n
        for d in comparison.differences
        if d.left == "student" and d.right in ("base", "teacher")
    ]
    if sizes and 0 < min(sizes) < SMALL:
        sentences.append(f"n = {min(sizes)} is small: other items may give another result.")
    if pair and pair.n >= MIN_ITEMS:
        sentences.append(seeds_note(pair))
    return " ".join(sentence for sentence in sentences if sentence)


def forgetting(comparison: Comparison) -> str:
    """One sentence on an off-task benchmark: whether the student got worse there."""
    pair = paired(comparison, "student", "base")
    if pair is None:
        return "Unknown: no item was graded for both student and base."
    metric = metric_name(comparison.headline)
    interval = pair.metrics[comparison.headline]
    better = gain(comparison, pair)
    if is_clear(pair, comparison.headline):
        what = "Forgotten" if better < 0 else "Nothing forgotten"
        if not comparison.higher_is_better:
            what = "Worse than before" if better < 0 else "Better than before"
        side = "worse" if better < 0 else "better"
        size = points(abs(interval.value))
        return f"{what}: the student is {size} points {side} than the base by {metric} ({evidence_of(pair, interval)})."
    unseen = "nothing was forgotten" if comparison.higher_is_better else "nothing changed"
    return (
        f"No clear change against the base by {metric}: a difference of {points(interval.value)} "
        f"points ({evidence_of(pair, interval)}). This does not prove that {unseen}."
    )


def fine_tune(comparison: Comparison) -> str:
    """Answer "should I fine-tune at all?": the highest mean, then contestants without training."""
    student = comparison.standing("student")
    best = best_of(comparison, comparison.headline)
    if student is None or comparison.headline not in student.metrics or not best:
        return ""
    names = [standing.contestant for standing in comparison.standings]
    rivals = [
        name
        for name in names
        if name != "base"
        and speaker_of(name) not in ("student", "teacher")
        and not is_control(name)
    ]
    return " ".join(filter(None, [_best(comparison, best), _untrained(comparison, rivals)]))


def warnings(comparison: Comparison) -> list[str]:
    """The notes, and which difference so few items cannot show."""
    lines = list(comparison.notes)
    pair = comparison.difference("student", "base")
    if pair is None or not pair.n:
        return lines
    among = f"One of {pair.tests} benchmarks has to meet a stricter level: " * (pair.tests > 1)
    if pair.binary and not pair.is_grouped and not pair.is_over_seeds:
        base = comparison.standing("base")
        at = base.metrics.get(comparison.headline) if base else None
        sentence = difference_sentence(
            pair.n,
            *loss_rates(pair.wins, pair.losses, pair.n),
            level=LEVEL / pair.tests,
            score=at.value if at else 0.3,
        )
        lines.append(_after(among, sentence))
    elif comparison.detectable is not None and comparison.detectable_at_most is not None:
        found = found_sentence(comparison.detectable, comparison.detectable_at_most)
        sentence = f"With {pair.n:,} items{_unequal(pair)}, {found} by a test of means."
        lines.append(_after(among, sentence))
    return lines


def _after(opening: str, sentence: str) -> str:
    """A sentence after an opening, if there is one."""
    return f"{opening}{sentence[0].lower()}{sentence[1:]}" if opening else sentence


def _unequal(pair: Difference) -> str:
    if pair.is_over_seeds:
        return f" and {max(pair.fits)} seeds as unequal as these"
    return " as unequal as these"


def _best(comparison: Comparison, best: Sequence[str]) -> str:
    standing = comparison.standing(best[0])
    mean = standing.metrics[comparison.headline].value if standing else 0.0
    out = [s.contestant for s in comparison.standings if not s.answered_most]
    sentence = (
        f"{'Highest' if comparison.higher_is_better else 'Lowest'} of {len(comparison.standings)} "
        f"contestants: {_and(best)} with {metric_name(comparison.headline)} {points(mean)} %"
    )
    if out:
        sentence += f" ({_and(out)} failed on too many items to be ranked)"
    pair = None if "student" in [*best, *out] else paired(comparison, "student", best[0])
    if pair is None:
        return f"{sentence}."
    interval = pair.metrics[comparison.headline]
    if not is_clear(pair, comparison.headline):
        return f"{sentence}, from which the student is not clearly different ({evidence_of(pair, interval)})."
    size = points(abs(interval.value))
    return f"{sentence}; the student is {size} points behind ({evidence_of(pair, interval)})."


def _untrained(comparison: Comparison, rivals: Sequence[str]) -> str:
    """Compare the student with the contestants that need no training."""
    if not rivals:
        return (
            "Whether a better prompt or retrieval would do as well was not measured: no contestant "
            "uses the base that way."
        )
    pairs = {name: paired(comparison, "student", name) for name in rivals}
    ahead: list[str] = []
    level: list[str] = []
    behind: list[str] = []
    for name, pair in pairs.items():
        if pair is None:
            continue
        part = form_part(comparison, name)
        form = f", of which {form_points(part)} may be form" if part else ""
        sentence = f"{name} ({points(gain(comparison, pair))} points{form}, p {p_text(p_of(pair))})"
        if not is_clear(pair, comparison.headline):
            level.append(sentence)
        else:
            (behind if gain(comparison, pair) > 0 else ahead).append(sentence)
    unpaired = [name for name, pair in pairs.items() if pair is None]
    sentences = []
    if ahead:
        sentences.append(
            f"Without any training, {_and(ahead)} {_is(ahead)} better than the student."
        )
    if level:
        sentences.append(
            f"Without any training, {_and(level)} {_is(level)} not clearly different from the student: "
            "these items do not show that training was needed."
        )
    if behind:
        need = "needs" if len(behind) == 1 else "need"
        sentences.append(f"The student beats {_and(behind)}, which {need} no training.")
    if unpaired:
        sentences.append(f"Not compared item by item: {_and(unpaired)}.")
    return " ".join(sentences)


def _rose(comparison: Comparison, pair: Difference) -> bool:
    return is_clear(pair, comparison.headline) and gain(comparison, pair) > 0


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _lower(comparison: Comparison) -> str:
    return "" if comparison.higher_is_better else "lower is better"


def _on_base(comparison: Comparison) -> str:
    pair = comparison.difference("student", "base")
    missing = [name for name in ("student", "base") if comparison.standing(name) is None]
    if pair is None:
        why = f"no answers of {' and '.join(missing)}" if missing else "they were not compared"
        return f"The student cannot be compared with the base: {why}."
    interval = pair.metrics.get(comparison.headline)
    if interval is None:
        return "The student cannot be compared with the base: no item was graded for both."
    metric = metric_name(comparison.headline)
    if low := _lower(comparison):
        metric = f"{metric}, where {low}"
    size, evidence = points(abs(interval.value)), evidence_of(pair, interval)
    if not is_clear(pair, comparison.headline):
        return (
            f"No clear difference between student and base in {metric}: "
            f"{points(interval.value)} points ({evidence})."
        )
    if gain(comparison, pair) > 0:
        return f"The student beats the base by {size} points {metric} ({evidence})."
    return f"The student is worse than the base by {size} points {metric} ({evidence})."


def _on_teacher(comparison: Comparison) -> str:
    pair = comparison.difference("student", "teacher")
    if pair is None or comparison.headline not in pair.metrics:
        why = "The student cannot be compared with the teacher: no item was graded for both."
        return why if pair else ""
    interval = pair.metrics[comparison.headline]
    evidence = evidence_of(pair, interval)
    size = points(abs(interval.value))
    if not is_clear(pair, comparison.headline):
        first = (
            "No clear difference between student and teacher: "
            f"{points(interval.value)} points ({evidence})"
        )
    else:
        side = "above" if interval.value > 0 else "below"
        word = ""
        if not comparison.higher_is_better:
            word = ", which is better" if gain(comparison, pair) > 0 else ", which is worse"
        first = f"The student is {size} points {side} the teacher{word} ({evidence})"
    gap = comparison.gap_closed
    if gap.interval is None or pair.n < MIN_ITEMS:
        why = gap.reason or f"{format_count(pair.n, 'item')} {be(pair.n)} too few"
        return f"{first}; the share of the gap closed is not given: {why}."
    return f"{first}; it closes {points(gap.interval.value)} % of the gap ({span(gap.interval)})."
