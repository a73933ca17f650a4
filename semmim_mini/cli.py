r"""semmim-mini: everything the kit does, from the command line.

Commands import what they need when they run, so that `--help` answers at once.
"""

import argparse
import os
import sys
from pathlib import Path

from semmim_mini import __version__
from semmim_mini.errors import UserError


def main(arguments: list[str] | None = None) -> int:
    """Run one command. A user's mistake prints one message and returns 2; an interrupted run returns 130."""
    # Threads that wait by spinning bring a machine to its knees as soon as anything else runs on it; threads that sleep at once are slow
    # to wake. A short spin is near the best of both. Must be set before torch loads; whoever sets a policy keeps it.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    parsed = build_parser().parse_args(arguments)
    try:
        return parsed.command(parsed) or 0
    except UserError as error:
        print(f"semmim-mini: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("semmim-mini: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="semmim-mini", description="Learn SemMIM, then run it.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train from scratch on composed scenes for a few minutes and show what was learned")
    _run_arguments(demo, default_preset="tiny")
    demo.set_defaults(command=_demo)

    pretrain = commands.add_parser("pretrain", help="pre-train any preset on any data; resumable")
    _run_arguments(pretrain, default_preset=None)
    pretrain.add_argument("--data", help="scenes | flickr8k:DIR | karpathy:FILE.json:IMAGES_DIR")
    pretrain.add_argument("--config", type=Path, help="a YAML file, such as a run's config.yaml, in place of --preset")
    pretrain.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    pretrain.set_defaults(command=_pretrain)

    report = commands.add_parser("report", help="measure a checkpoint on held-out pairs, without training")
    report.add_argument("run", type=Path, help="a run's folder, or a checkpoint's")
    report.add_argument("--checkpoint", choices=("last", "best"), default="last")
    report.add_argument("--data", help="other pairs than the run's own")
    report.add_argument("--split", help="train | val | test; scenes also have test_pictures")
    report.add_argument("--out", type=Path, help="also write the numbers as JSON")
    report.set_defaults(command=_report)

    bench = commands.add_parser("bench", help="time and memory of every part of a step")
    bench.add_argument("--preset", default="tiny")
    bench.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    bench.add_argument("--no-growth", action="store_true", help="leave out how a step grows, which takes most of the time")
    bench.add_argument("--out", type=Path, help="also write the numbers as JSON")
    bench.set_defaults(command=_bench)

    check = commands.add_parser("check", help="what is missing on this machine, and what to do about it")
    check.set_defaults(command=_check)
    return parser


def _run_arguments(parser: argparse.ArgumentParser, default_preset: str | None) -> None:
    parser.add_argument("--out", type=Path, required=True, help="folder for everything the run writes")
    parser.add_argument("--preset", default=default_preset, help="tiny | mini | small | base")
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="any setting, such as masking.ratio=0.4"
    )


def _demo(arguments) -> int:
    from semmim_mini.demo import run_demo

    return run_demo(_configuration(arguments), arguments.out)


def _pretrain(arguments) -> int:
    from semmim_mini.experiment import run_experiment
    from semmim_mini.report import summary

    result = run_experiment(_configuration(arguments), arguments.out, resume=arguments.resume)
    if result.finished.interrupted:
        return 130
    if result.report is not None:
        print(summary(result.report))
        print(f"report.json and figures are in {arguments.out}")
    return 0


def _report(arguments) -> int:
    import json

    from semmim_mini.experiment import report_on
    from semmim_mini.report import rounded, summary
    from semmim_mini.training.checkpoint import write_text

    report = report_on(arguments.run, arguments.checkpoint, arguments.data, arguments.split)
    print(summary(report))
    if arguments.out:
        write_text(arguments.out, json.dumps(rounded(report), indent=2) + "\n")
    return 0


def _configuration(arguments):
    """The configuration that the arguments describe; a resumed run starts from its own."""
    from semmim_mini.config import from_yaml, override
    from semmim_mini.presets import preset

    file = getattr(arguments, "config", None)
    if getattr(arguments, "resume", False) and not (arguments.preset or file):
        file = arguments.out / "config.yaml"
        if not file.exists():
            raise UserError(f"{arguments.out} holds no run to resume; leave out --resume to start one")
    if file and arguments.preset:
        raise UserError("--config and --preset are two answers to one question; give one of them")
    try:
        config = from_yaml(file.read_text(encoding="utf-8")) if file else preset(arguments.preset or "tiny")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file} cannot be read: {error}") from error
    data = getattr(arguments, "data", None)
    return override(config, ([f"data.source={data}"] if data else []) + arguments.settings)


def _bench(arguments) -> int:
    from semmim_mini.bench import run_bench

    return run_bench(_configuration(arguments), arguments.out, growth=not arguments.no_growth)


def _check(arguments) -> int:
    from semmim_mini.check import run_check

    return run_check()


if __name__ == "__main__":
    sys.exit(main())
