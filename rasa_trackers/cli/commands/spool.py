"""``spool``: what waits for the database."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import click

from rasa_trackers.cli.arguments import endpoints_option, example, json_option
from rasa_trackers.cli.errors import CommandError
from rasa_trackers.cli.output import count, note, print_json, print_table


@click.group(
    invoke_without_command=True,
    epilog=example(
        "rasa-trackers spool",
        "rasa-trackers spool drain",
    ),
)
@endpoints_option
@json_option
@click.pass_context
def command(context: click.Context, endpoints: Path, as_json: bool) -> None:
    """List what waits for the database in the file that the option spool names."""
    context.obj = endpoints
    if context.invoked_subcommand is not None:
        return
    spool = _spool(endpoints)
    waiting = {
        sender_id: spool.waiting(sender_id) for sender_id in sorted(spool.sender_ids())
    }
    found: List[Dict[str, Any]] = [
        {
            "sender_id": sender_id,
            "events": len(each.entries),
            "first": each.entries[0].timestamp,
            "last": each.entries[-1].timestamp,
        }
        for sender_id, each in waiting.items()
        if each is not None and each.entries
    ]
    if as_json:
        print_json(found)
        return
    if not found:
        click.echo(f"Nothing waits in {spool.name}.")
        return
    from rasa_trackers.cli.output import when

    print_table(
        ("sender id", "events", "first event", "last event"),
        [
            (
                str(each["sender_id"]),
                f"{each['events']:,}",
                when(each["first"]),
                when(each["last"]),
            )
            for each in found
        ],
        right=(1,),
        keep=(0,),
    )


@command.command(epilog=example("rasa-trackers spool drain"))
@click.option(
    "--endpoints",
    "-e",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The endpoints.yml that names the store.",
)
@click.pass_context
def drain(context: click.Context, endpoints: Any) -> None:
    """Store in the database what waits, each event once and in order.

    Rasa does so by itself as soon as the database is back; a process of Rasa's that uses
    the same file may run.
    """
    from rasa_trackers.cli.stores import opened
    from rasa_trackers.errors import is_store_error, is_unavailable
    from rasa_trackers.outage.handover import Handover

    path = endpoints or context.obj
    spool = _spool(path)
    waiting = sorted(spool.sender_ids())
    if not waiting:
        click.echo(f"Nothing waits in {spool.name}.")
        return
    problems = []
    with opened(path) as store:
        spool.claim(store.where)
        handover = Handover(
            store.log,
            spool,
            # Nobody waits in this process.
            on_stored=lambda _sender_id, _waiting, _position: None,
            timeout=store.place.values["timeout"],
            secrets=store.secrets,
        )
        for sender_id in waiting:
            try:
                handover.hand_over(sender_id)
            except Exception as error:
                if is_unavailable(error) or not is_store_error(error):
                    raise
                problems.append(f"{sender_id!r}: {error}")
        conversations, events = handover.take_totals()
        click.echo(
            f"{count(conversations, 'conversation')} with {count(events, 'event')} "
            f"stored in {store.name}."
        )
    for problem in problems[:10]:
        note(f"rasa-trackers: conversation {problem}")
    if problems:
        raise CommandError(
            f"{count(len(problems), 'conversation')} cannot be stored and still wait."
        )


def _spool(endpoints: Path) -> Any:
    from rasa_trackers.cli.places import place_of
    from rasa_trackers.outage.spool import Spool

    place = place_of(endpoints)
    where = place.values.get("spool", "off")
    if where in ("off", "memory"):
        raise CommandError(
            f"The tracker_store in {endpoints} keeps no spool in a file. Set its option "
            f"'spool' to the absolute path of a file that outlives Rasa's process."
        )
    if not Path(where).exists():
        raise CommandError(
            f"There is no spool {where}. Run this command on the machine that runs Rasa."
        )
    return Spool(Path(where), place.values["spool_bytes"])
