"""Makes tables and pictures of the manual and of the README from the data files."""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
)

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
TORTURE = FOLDER / "torture.json"
OUTAGE = FOLDER / "outage.json"
ROOT = FOLDER.parent
#: From the root, as the two below.
PICTURE, AGE_PICTURE = "docs/images/turn.svg", "docs/images/age.svg"
#: Where the reports stand, between markers of the same name.
PAGES = {
    "benchmark": "docs/benchmarks.md",
    "speed": "README.md",
    "torture": "docs/survival.md",
    "outage": "docs/failures.md",
}
BENCHMARK_MARK, SPEED_MARK, TORTURE_MARK, OUTAGE_MARK = PAGES

#: Events and sessions of the rows in the table; the picture has them all.
ROWS = [(100, 1), (1_000, 1), (10_000, 1), (10_000, 100)]
COLOURS = {
    "rasa": "#c0392b",
    "rasa-pro": "#e59866",
    "ours": "#1f6fb2",
    "ours-pro": "#5dade2",
    "floor": "#7f8c8d",
}
#: Events and sessions of conversations of several ages, with 100 events a session.
AGES = [(100, 1), (1_000, 10), (10_000, 100)]
STYLES = {1: "-", 10: "--", 100: ":"}
MARKERS = {1: "o", 10: "s", 100: "^"}

Key = Tuple[str, int, int]
Row = Sequence[str]


class Report(NamedTuple):
    """The data file."""

    data: Dict[str, Any]

    def labels(self) -> Dict[str, str]:
        """What the contenders are called, by their names in the data.

        Without those that could not be measured.
        """
        versions = self.data["versions"]
        labels = {"ours": "rasa_trackers", "rasa": f"Rasa {versions['']['Rasa']}"}
        if "-pro" in versions:
            pro = f"Rasa Pro {versions['-pro']['Rasa']}"
            labels.update({"ours-pro": f"rasa_trackers in {pro}", "rasa-pro": pro})
        labels["floor"] = "driver alone"
        return {
            name: label
            for name, label in labels.items()
            if name not in self.data["missing"]
        }

    def turns(self, store: str) -> Dict[Key, Dict[str, float]]:
        """Milliseconds a turn, by contender, events and sessions."""
        return {
            (turn["contender"], turn["events"], turn["sessions"]): turn["milliseconds"]
            for turn in self.data["stores"][store]["turns"]
        }

    def stores(self) -> Iterator[Tuple[str, Dict[str, Any]]]:
        """Names and data of the stores."""
        yield from self.data["stores"].items()

    def machine(self) -> str:
        """What was measured, and on what, in one sentence."""
        data, machine = self.data, self.data["machine"]
        servers = {
            name: version
            for _, store in self.stores()
            for name, version in store["versions"].items()
        }
        parts = [servers] if servers else []
        for label, versions in data["versions"].items():
            own = dict(versions)
            parts.append({"Rasa Pro" if label else "Rasa": own.pop("Rasa"), **own})
        return (
            f"{data['date'][:10]}, {machine['processor']}, {machine['cores']} cores, "
            f"{machine['system']}, {machine['file_system']}, load of other programs "
            f"and this one {data['load'][0]:g} in the end; "
            + "; ".join(
                ", ".join(f"{name} {version}" for name, version in part.items())
                for part in parts
            )
        )


def turn_table(report: Report) -> str:
    """Medians, and quartiles in brackets."""
    labels = report.labels()
    rows = []
    for store, _ in report.stores():
        turns = report.turns(store)
        for events, sessions in ROWS:
            times = {name: turns[name, events, sessions] for name in labels}
            ours = times["ours"]["median"]
            in_sessions = "one session" if sessions == 1 else f"{sessions} sessions"
            rows.append(
                [
                    store if (events, sessions) == ROWS[0] else "",
                    f"{events:,} in {in_sessions}",
                    *map(_cell, times.values()),
                    f"{_number(times['rasa']['median'] / ours)} times",
                    _of_the_floor(times),
                ]
            )
    labels = {**labels, "ours": f"**{labels['ours']}**"}
    return _markdown(
        [
            "",
            "events stored",
            *labels.values(),
            "faster than Rasa's",
            "of the driver's time"
            + (" (/ in Rasa Pro)" if "ours-pro" in labels else ""),
        ],
        rows,
    )


def _of_the_floor(times: Dict[str, Dict[str, float]]) -> str:
    """The figures of Rasa Open Source and of Rasa Pro, whose trackers take longer."""
    floor = times["floor"]["median"]
    ratios = [
        f"{times[name]['median'] / floor:.1f}"
        for name in ("ours", "ours-pro")
        if name in times
    ]
    return f"{' / '.join(ratios)} times"


def parts_table(report: Report) -> str:
    """The parts of a turn and the time that each takes."""
    rows = []
    parts: List[str] = []
    for store, data in report.stores():
        for each in data["parts"]:
            parts = list(each["milliseconds"])
            first = each is data["parts"][0]
            times = (f"{time:.2f}" for time in each["milliseconds"].values())
            rows.append([store if first else "", f"{each['events']:,}", *times])
    return _markdown(["", "events in one session", *parts], rows)


def crowd_table(report: Report) -> str:
    """Turns a second, and how long the event loop stood still."""
    labels = {name: label for name, label in report.labels().items() if name != "floor"}
    rows = []
    for store, data in report.stores():
        found = {(each["contender"], each["at_once"]): each for each in data["at_once"]}
        for at_once in dict.fromkeys(number for _, number in found):
            each = {name: found[name, at_once] for name in labels}
            rows.append(
                [
                    store if at_once == 1 else "",
                    str(at_once),
                    *(
                        f"{_number(one['turns_a_second'])} "
                        f"({_number(one['longest_stall'] * 1e3)})"
                        for one in each.values()
                    ),
                ]
            )
    return _markdown(["", "at once", *labels.values()], rows)


def space_table(report: Report) -> str:
    """Bytes an event; and what takes time where there are many conversations."""
    labels = report.labels()
    names = [name for name in labels if name != "floor"]
    rows = []
    for store, data in report.stores():
        for name in names:
            memory = data["memory_bytes_an_event"][name]
            start = data["start_seconds"].get(name)
            keys = data["keys"].get(name)
            rows.append(
                [
                    store if name == names[0] else "",
                    labels[name],
                    f"{data['stored_bytes_an_event'][name]:,}",
                    f"{memory['kept']:,} ({memory['peak']:,})",
                    _start(start),
                    "" if keys is None else f"{_number(keys['seconds'])} s",
                ]
            )
    many = report.data["many"]
    return _markdown(
        [
            "",
            "",
            "bytes stored an event",
            "bytes of memory an event of a tracker (most while reading)",
            f"start on {many['conversations'] * many['events']:,} events of Rasa's own",
            f"`keys()` of {many['conversations']:,} conversations",
        ],
        rows,
    )


def _start(start: Optional[Dict[str, float]]) -> str:
    if start is None:
        return ""
    text = f"{start['started']:.2f} s"
    if start["ready"] > start["started"]:
        text += f" (index after {start['ready']:.1f} s)"
    return text


def _markdown(head: Row, rows: Iterable[Row]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(times: Dict[str, float]) -> str:
    quartiles = _number(times["lower_quartile"]), _number(times["upper_quartile"])
    return f"{_number(times['median'])} ({quartiles[0]} to {quartiles[1]})"


def _number(value: float) -> str:
    """A number with two digits, or with all digits before the point."""
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def section(report: Report) -> str:
    """What stands between the markers in the page of the benchmarks."""
    data = report.data
    turn = (
        f"Milliseconds a turn: read the tracker, add {data['turn']['events']} events "
        f"of {data['turn']['bytes_an_event']} bytes, save. Median (quartiles), all in "
        f"one run, by turns. The driver alone reads the session's rows, decodes JSON "
        f"and appends, as durably: no store can do with less."
    )
    at_once = (
        f"Turns a second of one process, with several conversations at once, of "
        f"{data['crowd']['events']} events each; in brackets the milliseconds for "
        f"which the event loop stood still at the longest."
    )
    parts = (
        "Milliseconds of the parts of such a turn of rasa_trackers (medians). To read "
        "and to append is the server's and the driver's; to build the tracker is "
        "Rasa's; all else is mostly to hand the calls to threads and back, so that "
        "nobody waits in the event loop."
    )
    quick = ["A quick run, to be looked at for its ratios."] if data["quick"] else []
    missing = [f"No {name}: {reason}" for name, reason in data["missing"].items()]
    machine = f"{report.machine()}. `nox -s bench` measures on yours."
    picture = f"![Milliseconds a turn over the events stored]({_in_docs(PICTURE)})"
    blocks = [
        *quick,
        "### A turn",
        f"![Milliseconds a turn over the age of a conversation]({_in_docs(AGE_PICTURE)})",
        turn,
        turn_table(report),
        picture,
        "### The parts of a turn",
        parts,
        parts_table(report),
        "### Several conversations at once",
        at_once,
        crowd_table(report),
        "### Space, and many conversations",
        space_table(report),
        "### The machine",
        *missing,
        machine,
    ]
    return "\n\n".join(blocks)


def _in_docs(path: str) -> str:
    return Path(path).relative_to("docs").as_posix()


def speed_section(report: Report) -> str:
    """A row for each store, between its markers in the README."""
    labels = report.labels()
    rows = []
    for store, _ in report.stores():
        turns = report.turns(store)
        cells = []
        for events, sessions in ((10_000, 100), (1_000, 1)):
            ours, rasas = (
                turns[name, events, sessions]["median"] for name in ("ours", "rasa")
            )
            cells += [f"**{_number(ours)}**", f"{_number(rasas)}"]
        rows.append([store, *cells])
    head = [
        "",
        "10,000 events in 100 sessions",
        "Rasa's own",
        "1,000 events in one session",
        "Rasa's own",
    ]
    text = (
        f"Milliseconds a turn (medians, {report.data['date'][:10]}, "
        f"{report.data['machine']['cores']} cores), these stores in bold, beside those "
        f"of {labels['rasa']}:"
    )
    picture = f"![Milliseconds a turn over the age of a conversation]({AGE_PICTURE})"
    return "\n\n".join((picture, text, _markdown(head, rows)))


def torture_section(data: Dict[str, Any]) -> str:
    """What survived, between its markers in the manual."""
    stores: Dict[str, Dict[str, Any]] = data["stores"]
    one = next(iter(stores.values()))
    explanation = (
        f"{one['writers']} processes, each in {one['lanes']} conversations at the same "
        f"time, write to each store while writers and servers are killed and all else "
        f"below goes wrong (seed {data['seed']}). "
        f"Afterwards what is stored is compared with what the writers were told."
    )
    labels = {
        "seconds": "seconds",
        "written": "events written",
        "acknowledged": "acknowledged",
        "stored": "stored",
        "lost": "**acknowledged and lost**",
        "duplicated": "**stored twice**",
        "reordered": "**out of order within a writer**",
        "torn": "**saves stored in part**",
        "alien": "**events that nobody wrote**",
        "unreadable": "**conversations that Rasa does not read**",
    }
    rows = [
        [label, *(f"{one[name]:,}" for one in stores.values())]
        for name, label in labels.items()
    ]
    kinds = sorted({kind for one in stores.values() for kind in one["faults"]})
    rows += [
        [kind, *(str(one["faults"].get(kind) or "") for one in stores.values())]
        for kind in kinds
    ]
    for name, label in (
        ("risked", "acknowledged in an outage by a process that was killed in it"),
        ("risked_and_lost", "of these lost, all with `spool: memory`"),
        ("late", "saves with a spool that took longer than 3 seconds"),
    ):
        if all(name in one for one in stores.values()):
            rows.append([label, *(f"{one[name]:,}" for one in stores.values())])
    failed = (sum(one["failures"].values()) for one in stores.values())
    rows.append(["saves that failed with an error", *map(str, failed)])
    machine, versions = data["machine"], dict(data["versions"])
    for one in stores.values():
        versions.update(one["versions"])
    where = (
        f"{data['date'][:10]}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}, {machine['file_system']}; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ". `nox -s torture` does it on yours."
    )
    return "\n\n".join((explanation, _markdown(["", *stores], rows), where))


def outage_section(data: Dict[str, Any]) -> str:
    """What people notice of an outage, between its markers in the manual."""
    wanted = data["outages"][0]["wanted_a_minute"]
    head = [
        f"{data['store']}, {data['seconds']:.0f} s",
        f"answers a minute, of {wanted:.0f}",
        "seconds an answer, median (worst)",
        "right answers",
        "messages lost",
    ]
    rows = []
    for one in data["outages"]:
        store = f"Rasa {data['versions']['Rasa']}" if one["own"] else "rasa_trackers"
        times = f"{one['median_seconds']:.2f} ({one['worst_seconds']:.1f})"
        rows.append(
            [
                f"server {one['kind']}: {store}",
                f"{one['answers_a_minute']:.0f}",
                times,
                f"{one['right']} of {one['messages']}",
                f"{one['lost']} of {one['messages']}",
            ]
        )
    machine, versions = data["machine"], data["versions"]
    names = ["Rasa", "Python", "redis-py", "psycopg2", "Redis", "PostgreSQL"]
    where = (
        f"{data['date'][:10]}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['system']}; "
        + ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
        + ". `nox -s outage` measures on yours."
    )
    return "\n\n".join((_markdown(head, rows), where))


def write_section(page: Path, mark: str, text: str, *, check: bool = False) -> None:
    """Put a report between its markers.

    Args:
        page: The file.
        mark: Names the markers.
        text: The report.
        check: Whether it has to stand there already.

    Raises:
        ValueError: if they are not there, or something else is between them.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before = page.read_text(encoding="utf-8")
    pattern = re.compile(f"({re.escape(begin)}).*({re.escape(end)})", re.DOTALL)
    # An empty line beside a marker: otherwise Python's Markdown takes it for its paragraph.
    after, found = pattern.subn(lambda it: f"{it[1]}\n\n{text}\n\n{it[2]}", before)
    if not found:
        raise ValueError(f"{page} has no {begin} ... {end}")
    if check and after != before:
        raise ValueError(f"What {page} has between {begin} and {end} is not the data")
    page.write_text(after, encoding="utf-8")


def _pyplot() -> Any:
    # The tables are checked where it is not installed.
    import matplotlib as mpl

    mpl.use("Agg")
    # The same data makes the same file.
    mpl.rcParams.update({"svg.hashsalt": "rasa_trackers", "font.size": 9})
    from matplotlib import pyplot as plt

    return plt


def draw_ages(report: Report, picture: Path) -> None:
    """Draw milliseconds over age, these stores beside Rasa's own, in one panel."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(7.4, 3.8))
    ends = []
    for store, _ in report.stores():
        turns = report.turns(store)
        for name in ("rasa", "ours"):
            times = [turns[(name, *age)]["median"] for age in AGES]
            ages = [events for events, _ in AGES]
            axis.plot(ages, times, "o-", color=COLOURS[name], markersize=4)
            ends.append((times[-1], name, store))
    _label_ends(axis, ends, report.labels()["rasa"])
    axis.set(xscale="log", yscale="log", xlim=(85, 11_500), ylim=(1, 4_000))
    axis.set_xlabel("events stored in the conversation, 100 a session")
    axis.set_title("Milliseconds a turn, over the age of a conversation", loc="left")
    _plain_numbers(axis)
    axis.set_xticks([events for events, _ in AGES])
    axis.minorticks_off()
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.tight_layout(rect=(0, 0, 0.72, 1))
    figure.savefig(picture, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _label_ends(axis: Any, ends: List[Tuple[float, str, str]], rasa: str) -> None:
    """Name the lines at their ends, those that are near each other together."""
    groups: List[List[Tuple[float, str, str]]] = []
    for end in sorted(ends):
        if groups and groups[-1][0][1] == end[1] and end[0] < 1.4 * groups[-1][0][0]:
            groups[-1].append(end)
        else:
            groups.append([end])
    for group in groups:
        name = group[0][1]
        times = dict.fromkeys(_number(time) for time, _, _ in group)
        stores = ", ".join(store for _, _, store in group)
        label = "rasa_trackers" if name == "ours" else f"{rasa}'s own"
        axis.annotate(
            f"{' to '.join([*times][:: max(1, len(times) - 1)])} ms  {label}\n{stores}",
            (AGES[-1][0], group[len(group) // 2][0]),
            xytext=(8, 0),
            textcoords="offset points",
            color=COLOURS[name],
            verticalalignment="center",
            fontsize=8,
            annotation_clip=False,
        )


def _plain_numbers(axis: Any) -> None:
    axis.yaxis.set_major_formatter("{x:,g}")
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.grid(which="major", color="#ddd", linewidth=0.6)


def draw(report: Report, picture: Path) -> None:
    """Draw milliseconds over the events stored, a panel a store."""
    plt = _pyplot()

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
    figure.legend(handles=handles, loc="lower center", ncol=4, frameon=False)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(picture, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


def _panel(axis: Any, report: Report, store: str) -> None:
    turns = report.turns(store)
    for name in report.labels():
        colour = COLOURS[name]
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
    _plain_numbers(axis)


def main() -> int:
    """Write all."""
    parser = argparse.ArgumentParser(description=__doc__)
    # The benchmark has a part in the README, too.
    marks = (BENCHMARK_MARK, TORTURE_MARK, OUTAGE_MARK)
    parser.add_argument("--only", choices=marks, help="leave the others as they are")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the data file")
    parser.add_argument("--torture", type=Path, default=TORTURE, help="another one")
    parser.add_argument("--outage", type=Path, default=OUTAGE, help="another one")
    parser.add_argument("--root", type=Path, default=ROOT, help="has README and docs/")
    parser.add_argument("--check", action="store_true", help="change nothing")
    options = parser.parse_args()

    def write(mark: str, text: str) -> None:
        write_section(options.root / PAGES[mark], mark, text, check=options.check)

    if options.only in (None, BENCHMARK_MARK):
        report = Report(json.loads(options.results.read_text(encoding="utf-8")))
        if not options.check:
            draw(report, options.root / PICTURE)
            draw_ages(report, options.root / AGE_PICTURE)
        write(BENCHMARK_MARK, section(report))
        write(SPEED_MARK, speed_section(report))
        print(turn_table(report))
    if options.only in (None, TORTURE_MARK):
        survived = torture_section(json.loads(options.torture.read_text("utf-8")))
        write(TORTURE_MARK, survived)
        print(survived)
    if options.only in (None, OUTAGE_MARK):
        noticed = outage_section(json.loads(options.outage.read_text("utf-8")))
        write(OUTAGE_MARK, noticed)
        print(noticed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
