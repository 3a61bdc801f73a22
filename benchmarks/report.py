"""Makes the README's tables and the picture `turn.svg` from the data files."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

import matplotlib as mpl

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
TORTURE = FOLDER / "torture.json"
PICTURE = FOLDER / "turn.svg"
README = FOLDER.parent / "README.md"
BENCHMARK_MARK, TORTURE_MARK = "benchmark", "torture"

#: Events and sessions of the rows in the table; the picture has them all.
ROWS = [(100, 1), (1_000, 1), (10_000, 1), (10_000, 100)]
COLOURS = {"rasa": "#c0392b", "ours": "#1f6fb2", "floor": "#7f8c8d"}
STYLES = {1: "-", 10: "--", 100: ":"}
MARKERS = {1: "o", 10: "s", 100: "^"}

Key = Tuple[str, int, int]


class Report(NamedTuple):
    """The data file."""

    data: Dict[str, Any]

    def labels(self) -> Dict[str, str]:
        """What the contenders are called, by their names in the data."""
        return {
            "rasa": f"Rasa {self.data['versions']['Rasa']}",
            "ours": "rasa_trackers",
            "floor": "driver alone",
        }

    def turns(self, store: str) -> Dict[Key, Dict[str, float]]:
        """Milliseconds a turn, by contender, events and sessions."""
        return {
            (turn["contender"], turn["events"], turn["sessions"]): turn["milliseconds"]
            for turn in self.data["stores"][store]["turns"]
        }


def where_it_ran(data: Dict[str, Any]) -> str:
    """What a data file is about, and on what machine it was made, in one sentence."""
    machine, versions = data["machine"], dict(data["versions"])
    for store in data["stores"].values():
        versions.update(store["versions"])
    return (
        f"{data['date'][:10]}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}, {machine['file_system']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
    )


def table(report: Report) -> str:
    """Markdown: medians, and quartiles in brackets."""
    labels = report.labels()
    head = (
        f"| | events stored | {labels['ours']} | {labels['rasa']} "
        f"| {labels['floor']} | faster than Rasa's | of the driver's time |"
    )
    lines = [head, "|---|---|---|---|---|---|---|"]
    for store in report.data["stores"]:
        turns = report.turns(store)
        for events, sessions in ROWS:
            ours, rasas, floor = (
                turns[name, events, sessions] for name in ("ours", "rasa", "floor")
            )
            in_sessions = "one session" if sessions == 1 else f"{sessions} sessions"
            faster = rasas["median"] / ours["median"]
            lines.append(
                f"| {store} | {events:,} in {in_sessions} "
                f"| **{_number(ours['median'])}** {_quartiles(ours)} "
                f"| {_number(rasas['median'])} {_quartiles(rasas)} "
                f"| {_number(floor['median'])} {_quartiles(floor)} "
                f"| {_number(faster)} times "
                f"| {ours['median'] / floor['median']:.1f} times |"
            )
            store = ""  # noqa: PLW2901 - named once
    return "\n".join(lines)


def _quartiles(times: Dict[str, float]) -> str:
    return f"({_number(times['lower_quartile'])} to {_number(times['upper_quartile'])})"


def _number(value: float) -> str:
    """With two digits, and those before the point."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def section(report: Report) -> str:
    """What stands between the markers in the README."""
    data = report.data
    explanation = (
        f"Milliseconds a turn: read the tracker, add {data['events_a_turn']} events, "
        f"save. Median (quartiles), all in one run, by turns. The driver alone reads "
        f"the session's rows, decodes JSON and appends, as durably: no store can do "
        f"with less."
    )
    picture = PICTURE.relative_to(README.parent).as_posix()
    return "\n\n".join(
        (
            explanation,
            table(report),
            f"![Milliseconds a turn over the age of a conversation]({picture})",
            f"{where_it_ran(data)}. `nox -s bench` measures on yours.",
        )
    )


def torture_section(data: Dict[str, Any]) -> str:
    """What survived, between its markers in the README."""
    stores: Dict[str, Dict[str, Any]] = data["stores"]
    one = next(iter(stores.values()))
    explanation = (
        f"{one['writers']} processes, each in {one['lanes']} conversations at the same "
        f"time, write for {one['seconds']:g} seconds to each store while writers and "
        f"servers are killed and all else below goes wrong (seed {data['seed']}). "
        f"Afterwards what is stored is compared with what the writers were told."
    )
    head = ["", *stores]
    rows = [
        ["events written", *(f"{one['written']:,}" for one in stores.values())],
        ["acknowledged", *(f"{one['acknowledged']:,}" for one in stores.values())],
        ["stored", *(f"{one['stored']:,}" for one in stores.values())],
    ]
    wrong = {
        "lost": "**acknowledged and lost**",
        "duplicated": "**stored twice**",
        "reordered": "**out of order within a writer**",
        "torn": "**saves stored in part**",
        "alien": "**events that nobody wrote**",
        "unreadable": "**conversations that Rasa does not read**",
    }
    rows += [
        [label, *(f"**{one[name]}**" for one in stores.values())]
        for name, label in wrong.items()
    ]
    kinds = sorted({kind for one in stores.values() for kind in one["faults"]})
    rows += [
        [kind, *(f"{one['faults'].get(kind, 0) or ''}" for one in stores.values())]
        for kind in kinds
    ]
    failed = (sum(one["failures"].values()) for one in stores.values())
    rows.append(["saves that failed with an error", *(f"{sum_:,}" for sum_ in failed)])
    lines = [head, ["---"] * len(head), *rows]
    return "\n\n".join(
        (
            explanation,
            "\n".join(f"| {' | '.join(line)} |" for line in lines),
            f"{where_it_ran(data)}. `nox -s torture` does it on yours.",
        )
    )


def write_section(readme: Path, mark: str, text: str) -> None:
    """Put a report between its markers.

    Raises:
        ValueError: if they are not there.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before = readme.read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(begin)}).*({re.escape(end)})", re.DOTALL)
    after, found = pattern.subn(lambda mark: f"{mark[1]}\n{text}\n{mark[2]}", before)
    if not found:
        raise ValueError(f"{readme} has no {begin} ... {end}")
    readme.write_text(after, encoding="utf-8")


def draw(report: Report, picture: Path) -> None:
    """Draw milliseconds over age, a panel a store."""
    mpl.use("Agg")
    # The same data makes the same file.
    mpl.rcParams.update({"svg.hashsalt": "rasa_trackers", "font.size": 9})
    from matplotlib import pyplot as plt

    stores = list(report.data["stores"])
    rows = -(-len(stores) // 2)
    figure, panels = plt.subplots(
        rows, min(2, len(stores)), figsize=(9, 3.6 * rows), sharex=True, sharey=True
    )
    axes: List[Any] = list(panels.flat) if len(stores) > 1 else [panels]
    for axis, store in zip(axes, stores):
        _panel(axis, report, store)
    for axis in axes[len(stores) :]:
        axis.set_axis_off()
    handles = [
        plt.Line2D([], [], color=COLOURS[name], label=label)
        for name, label in report.labels().items()
    ] + [
        plt.Line2D(
            [],
            [],
            color="#444",
            linestyle=style,
            marker=MARKERS[sessions],
            markersize=3,
            label=f"{sessions} session{'s'[: sessions > 1]}",
        )
        for sessions, style in STYLES.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncol=6, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(picture, metadata={"Date": None})
    plt.close(figure)


def _panel(axis: Any, report: Report, store: str) -> None:
    turns = report.turns(store)
    for name, colour in COLOURS.items():
        for sessions, style in STYLES.items():
            points = sorted(
                (events, times)
                for (contender, events, number), times in turns.items()
                if (contender, number) == (name, sessions)
            )
            ages = [events for events, _ in points]
            axis.plot(
                ages,
                [times["median"] for _, times in points],
                color=colour,
                linestyle=style,
                marker=MARKERS[sessions],
                markersize=3,
                linewidth=1.3,
            )
            axis.fill_between(
                ages,
                [times["lower_quartile"] for _, times in points],
                [times["upper_quartile"] for _, times in points],
                color=colour,
                alpha=0.15,
                linewidth=0,
            )
    axis.set(xscale="log", yscale="log", title=store)
    axis.set(xlabel="events stored", ylabel="milliseconds a turn")
    axis.tick_params(labelbottom=True, labelleft=True)
    axis.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_major_formatter(mpl.ticker.StrMethodFormatter("{x:,.0f}"))
    axis.grid(which="major", color="#ddd", linewidth=0.6)


def main() -> int:
    """Write all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="the data file")
    parser.add_argument("--torture", type=Path, default=TORTURE, help="the other one")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--readme", type=Path, default=README)
    options = parser.parse_args()
    report = Report(json.loads(options.results.read_text(encoding="utf-8")))
    draw(report, options.picture)
    write_section(options.readme, BENCHMARK_MARK, section(report))
    print(table(report))
    survived = torture_section(json.loads(options.torture.read_text(encoding="utf-8")))
    write_section(options.readme, TORTURE_MARK, survived)
    print(survived)
    return 0


if __name__ == "__main__":
    sys.exit(main())
