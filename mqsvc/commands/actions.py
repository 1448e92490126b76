"""What the two commands do, from opening to closing."""

from __future__ import annotations

from contextlib import closing
from typing import Any, BinaryIO

from twisted.internet.threads import deferToThread

from mqsvc.clock import Now, milliseconds
from mqsvc.commands.exporting import Exporter, count_messages
from mqsvc.commands.files import open_input, open_output
from mqsvc.commands.importing import (
    Check,
    Importer,
    ImportStopped,
    Outcome,
    Read,
    Wanted,
)
from mqsvc.commands.interruption import Interrupted, Interruption
from mqsvc.commands.options import ExportOptions, ImportOptions
from mqsvc.commands.progress import is_watched, shown_progress
from mqsvc.commands.reading import Reading
from mqsvc.commands.stores import started_stores
from mqsvc.wiring import Backends


async def export_to_file(
    options: ExportOptions, reactor: Any, interruption: Interruption
) -> str:
    """Write an export, whole or not at all.

    :return: fires with what to tell the operator.
    """
    now = milliseconds(reactor)
    async with started_stores(options.settings, reactor, may_be_new=False) as stores:
        total = await _watched_total(options, stores, now)
        output = open_output(options["file"])
        try:
            with shown_progress("export", total) as advance:
                exporter = Exporter(
                    stores=stores,
                    now=now,
                    interruption=interruption,
                    advance=advance,
                    write=lambda data: deferToThread(output.write, data),
                    project=options["project"],
                    has_messages=not options["without-messages"],
                )
                counts = await exporter.run()
            await deferToThread(output.finish)
        except BaseException:
            output.discard()
            raise
    return f"exported {counts}"


async def _watched_total(
    options: ExportOptions, stores: Backends, now: Now
) -> int | None:
    if options["without-messages"] or not is_watched():
        return None
    return await count_messages(stores, options["project"], now)


async def import_from_file(
    options: ImportOptions, reactor: Any, interruption: Interruption
) -> str:
    """Read a file twice: first check all of it, then do what it says.

    :return: fires with what to tell the operator.
    """
    wanted = Wanted(options["project"], options.resume_at, bool(options["append"]))
    with closing(open_input(options["file"])) as file:
        async with started_stores(options.settings, reactor, may_be_new=True) as stores:
            parts = (stores, milliseconds(reactor), interruption, wanted)
            counts = await Check(*parts).run(_reading(file))
            with shown_progress("import", counts.messages) as advance:
                outcome = await _import(Importer(*parts, advance), _reading(file))
    return (
        f"imported {outcome.done}; of these there already: {outcome.existing}, "
        f"expired: {outcome.expired}"
    )


def _reading(file: BinaryIO) -> Read:
    reading = Reading(file)
    return lambda: deferToThread(reading.batch)


async def _import(importer: Importer, read: Read) -> Outcome:
    try:
        await importer.run(read)
    except (ImportStopped, Interrupted) as error:
        raise type(error)(
            f"{error}; lines before {importer.next_line} are done; to go on give "
            f"--resume-at {importer.next_line}"
        ) from error
    return importer.outcome
