r"""semmim-mini: everything the kit does, from the command line.

Commands import what they need when they run, so that `--help` answers at once.
"""

import argparse
import errno
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
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        print(f"semmim-mini: {_no_room(error)}", file=sys.stderr)
        return 2


# What a disk says that takes no more, whatever was to be written: full, over quota, read-only, a file larger than allowed.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


def _no_room(error: OSError) -> str:
    where = f"{error.filename} cannot be written" if error.filename else "a file cannot be written"
    return f"{where}: {error.strerror}; free space or choose another folder. What was saved before is whole"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="semmim-mini", description="Learn SemMIM, then run it.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train from scratch on composed scenes for a few minutes and show what was learned")
    _run_arguments(demo, default_preset="tiny")
    demo.set_defaults(command=_demo)

    pretrain = commands.add_parser("pretrain", help="pre-train any preset on any data; resumable")
    _run_arguments(pretrain, default_preset=None)
    pretrain.add_argument("--data", help="scenes | flickr8k:DIR | karpathy:FILE.json:IMAGES_DIR | shards:DIR | mix:2*SOURCE+1*SOURCE")
    pretrain.add_argument("--config", type=Path, help="a YAML file, such as a run's config.yaml, in place of --preset")
    pretrain.add_argument(
        "--checkpoint", type=Path, help="begin with the weights and words of another run; its settings, too, unless given"
    )
    pretrain.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    pretrain.set_defaults(command=_pretrain)

    finetune = commands.add_parser("finetune", help="train a pre-trained checkpoint for a task; resumable")
    finetune.add_argument("task", help="retrieval | captioning | vqa")
    finetune.add_argument("--checkpoint", type=Path, help="the run or checkpoint folder to start from; not needed with --resume")
    finetune.add_argument("--out", type=Path, required=True, help="folder for everything the run writes")
    finetune.add_argument("--data", help="as for pretrain; for vqa scenes | vqa:Q.json:A.json:IMAGES_DIR")
    finetune.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="such as data.resolution=96")
    finetune.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    finetune.set_defaults(command=_finetune)

    evaluate = commands.add_parser("evaluate", help="what a checkpoint can do at one task")
    evaluate.add_argument("task", help="retrieval | captioning | vqa | zero-shot | probes | grounding")
    evaluate.add_argument("--checkpoint", required=True, help="a run's folder, a checkpoint's, or a folder or hub name of save_pretrained")
    evaluate.add_argument("--data", help="other data than the run's own")
    evaluate.add_argument("--split", help="train | val | test; scenes also have test_pictures")
    evaluate.add_argument("--limit", type=_count, help="images or questions to look at (1000)")
    evaluate.add_argument("--rerank", type=_count, default=0, help="retrieval: how many of the nearest ITM puts in order anew")
    evaluate.add_argument("--fold", type=_count, help="retrieval: images that are ranked together; 1000 for the 1k protocol")
    evaluate.add_argument("--method", choices=("rank", "generate"), default="rank", help="vqa: choose from a list, or write")
    evaluate.add_argument("--beams", type=_count, default=3, help="captioning: beams; 1 is greedy")
    evaluate.add_argument("--results", type=Path, help="captioning, vqa: also write the official results file")
    evaluate.add_argument("--out", type=Path, help="also write the figures as JSON")
    evaluate.set_defaults(command=_evaluate)

    _person_commands(commands)
    _prepare_command(commands)

    _checkpoint_commands(commands)

    bench = commands.add_parser("bench", help="time and memory of every part of a step")
    bench.add_argument("--preset", default="tiny")
    bench.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    bench.add_argument("--no-growth", action="store_true", help="leave out how a step grows, which takes most of the time")
    bench.add_argument("--out", type=Path, help="also write the numbers as JSON")
    bench.set_defaults(command=_bench)

    ablate = commands.add_parser("ablate", help="compare parts of the method: rows and sweeps, several seeds; resumable")
    _run_arguments(ablate, default_preset="tiny")
    ablate.add_argument("--rows", default="A0,A1,A1t,A2,A3,A4,A5,A6,A7,A8", help="separated by commas; A0x is A0 in A8's time")
    ablate.add_argument("--sweeps", default="", help="of A8: m, r, k, strategy, relevance, isolation, balance; separated by commas")
    ablate.add_argument("--seeds", type=int, default=3, help="0 to N-1 (3)")
    ablate.add_argument("--task-steps", type=int, default=200, help="of fine-tuning for questions and captions (200); 0 for none")
    ablate.add_argument("--task-rows", default="", help="fine-tune these rows only, separated by commas (all)")
    ablate.add_argument(
        "--first-phase",
        type=int,
        default=0,
        help="steps of A0 that all rows of a seed go on from, so that they differ in every step of theirs",
    )
    ablate.add_argument("--jobs", type=int, default=1, help="cells at a time (1); two on two cores get more done than one on both")
    ablate.set_defaults(command=_ablate)

    _plan_command(commands)

    check = commands.add_parser("check", help="what is missing on this machine, and what to do about it")
    check.set_defaults(command=_check)
    return parser


def _checkpoint_commands(commands) -> None:
    """What a run writes at its end, made anew from its checkpoint."""
    report = commands.add_parser("report", help="measure a checkpoint on held-out pairs, without training")
    figures = commands.add_parser("figures", help="draw what a checkpoint learned: masks, codes, patterns, regions of words, curves")
    for parser, out, command in ((report, "also write the numbers as JSON", _report), (figures, "folder (RUN/figures)", _figures)):
        parser.add_argument("run", type=Path, help="a run's folder, or a checkpoint's")
        parser.add_argument("--checkpoint", choices=("last", "best"), default="last")
        parser.add_argument("--data", help="other pairs than the run's own")
        parser.add_argument("--split", help="train | val | test; scenes also have test_pictures")
        parser.add_argument("--out", type=Path, help=out)
        parser.set_defaults(command=command)


def _person_commands(commands) -> None:
    """What somebody tries first who just wants to see it work."""
    caption = commands.add_parser("caption", help="describe a picture")
    caption.add_argument("picture", type=Path)
    search = commands.add_parser("search", help="find pictures in a folder by a description")
    search.add_argument("text")
    search.add_argument("--images", type=Path, required=True, help="a folder; its folders are searched, too")
    search.add_argument("--top", type=_count, default=5, help="how many to show (5)")
    search.add_argument("--rerank", type=_count, default=0, help="how many of the nearest ITM puts in order anew")
    answer = commands.add_parser("answer", help="answer a question about a picture (after finetune vqa)")
    answer.add_argument("picture", type=Path)
    answer.add_argument("question")
    for parser, command in ((caption, _caption), (search, _search), (answer, _answer)):
        parser.add_argument(
            "--checkpoint", required=True, help="a run's folder, a checkpoint's, or a folder or hub name of save_pretrained"
        )
        parser.set_defaults(command=command)


def _prepare_command(commands) -> None:
    prepare = commands.add_parser("prepare", help="a downloaded collection into shards: checked, resized, resumable")
    prepare.add_argument("collection", help="coco | vg | sbu | cc3m | flickr30k | flickr8k; layouts: semmim_mini/prepare/layouts.py")
    prepare.add_argument("source", type=Path, help="its folder, or its annotation file where there are several")
    prepare.add_argument("--out", type=Path, required=True, help="folder of the shards; data.source is then shards:OUT")
    prepare.add_argument("--images", type=Path, help="folder of the pictures, if they are not beside the annotations")
    prepare.add_argument("--split", help="train | val | test: only this one; of a list without splits, which it shall be")
    prepare.add_argument(
        "--held-out", type=Path, action="append", default=[], metavar="FILE", help="dataset_coco.json …: keep its val and test out of train"
    )
    prepare.add_argument("--size", type=_count, default=384, help="px, the most that a picture's shorter side keeps (384)")
    prepare.add_argument("--shard-size", type=_count, default=1_000, help="pictures of a shard (1000)")
    prepare.add_argument("--workers", type=_count, default=os.cpu_count(), help="processes; 0 works in this one (one per processor)")
    prepare.set_defaults(command=_prepare)


def _plan_command(commands) -> None:
    plan = commands.add_parser("plan", help="parameters, FLOPs, memory, hours and data of a run on GPUs, worked out before it is paid for")
    plan.add_argument("--preset", help="tiny | mini | small | base (base, without --config)")
    plan.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="such as run.accumulate=2")
    plan.add_argument("--config", type=Path, help="a YAML file, such as a run's config.yaml, in place of --preset")
    plan.add_argument("--gpus", type=int, default=8, help="how many (8)")
    plan.add_argument("--gpu", default="a100-80g", help="which, as in semmim_mini/plan/gpus.py (a100-80g)")
    plan.add_argument("--images", type=float, help="in the collection, such as 4e6; without --images and --epochs run.steps decides")
    plan.add_argument("--epochs", type=float, help="how often each is seen")
    plan.add_argument("--utilisation", type=float, default=0.35, help="share of the GPUs' peak that the run reaches (0.35)")
    plan.add_argument("--gpus-per-node", type=int, default=8, help="that share a node's disks and network (8)")
    plan.add_argument("--measure", action="store_true", help="also run one step here, and put it beside what the formulas say for it")
    plan.add_argument("--json", action="store_true", help="print JSON in place of the table")
    plan.set_defaults(command=_plan)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


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


def _figures(arguments) -> int:
    from semmim_mini.experiment import figures_on

    for path in figures_on(arguments.run, arguments.checkpoint, arguments.data, arguments.split, arguments.out):
        print(path)
    return 0


def _finetune(arguments) -> int:
    from semmim_mini.config import from_yaml, override
    from semmim_mini.evaluation import as_lines
    from semmim_mini.experiment import run_experiment
    from semmim_mini.training.finetuning import fine_tuning_config

    stored = arguments.out / "config.yaml"
    if arguments.resume and stored.exists():
        config = from_yaml(stored.read_text(encoding="utf-8"))
    elif arguments.checkpoint is None:
        raise UserError("--checkpoint is missing: give the folder of a pre-training run, such as runs/demo")
    else:
        config = fine_tuning_config(arguments.task, arguments.checkpoint)
    config = override(config, ([f"data.source={arguments.data}"] if arguments.data else []) + arguments.settings)
    if config.task.name != arguments.task:
        raise UserError(f"{arguments.out} holds a run for {config.task.name}, not for {arguments.task}; choose another --out")
    result = run_experiment(config, arguments.out, resume=arguments.resume)
    if result.finished.interrupted:
        return 130
    if result.report is not None:
        print("\n".join(as_lines(result.report)))
    return 0


def _evaluate(arguments) -> int:
    import json
    from dataclasses import fields

    from semmim_mini.evaluation import Options, as_lines, evaluate, open_data, stored_answers
    from semmim_mini.report import rounded
    from semmim_mini.training.checkpoint import write_text
    from semmim_mini.use import open_model

    if arguments.out is not None and not arguments.out.parent.is_dir():
        raise UserError(f"--out {arguments.out}: the folder {arguments.out.parent} does not exist; give a file name in one that does")
    model, tokenizer = open_model(arguments.checkpoint)
    options = Options(**{field.name: getattr(arguments, field.name) for field in fields(Options)})
    data = open_data(arguments.task, model.config, options)
    found = rounded(evaluate(arguments.task, model, tokenizer, data, options, stored_answers(arguments.checkpoint)))
    print("\n".join(as_lines(found)))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(found, indent=2) + "\n")
    return 0


def _prepare(arguments) -> int:
    from semmim_mini.prepare.held_out import held_out_identities
    from semmim_mini.prepare.job import Settings, as_lines, prepare
    from semmim_mini.prepare.layouts import list_entries

    settings = Settings(arguments.size, arguments.shard_size, arguments.workers)
    held_out = held_out_identities(arguments.held_out)
    splits = list_entries(arguments.collection, arguments.source, arguments.images, arguments.split, held_out)
    reports = prepare(arguments.collection, splits, arguments.out, settings, held_out)
    print("\n".join(as_lines(reports)))
    print(f"use it: semmim-mini pretrain --data shards:{arguments.out} …")
    return 0


def _caption(arguments) -> int:
    from semmim_mini.use import caption_picture, open_model

    print(caption_picture(*open_model(arguments.checkpoint), arguments.picture))
    return 0


def _search(arguments) -> int:
    from semmim_mini.use import open_model, search_pictures

    how = {"top": arguments.top, "rerank": arguments.rerank}
    for score, path in search_pictures(*open_model(arguments.checkpoint), arguments.text, arguments.images, **how):
        print(f"{score:.3f}  {path}")
    return 0


def _answer(arguments) -> int:
    from semmim_mini.evaluation import stored_answers
    from semmim_mini.use import answer_question, open_model

    answers = stored_answers(arguments.checkpoint)
    ranked = answer_question(
        *open_model(arguments.checkpoint), arguments.picture, arguments.question, answers.answers if answers is not None else None
    )
    for score, text in ranked[:3]:
        print(f"{score:.3f}  {text}")
    return 0


def _configuration(arguments):
    """The configuration that the arguments describe; a resumed run starts from its own."""
    from semmim_mini.config import from_yaml, override
    from semmim_mini.presets import preset

    file, start = getattr(arguments, "config", None), getattr(arguments, "checkpoint", None)
    if getattr(arguments, "resume", False) and not (arguments.preset or file):
        file = arguments.out / "config.yaml"
        if not file.exists():
            raise UserError(f"{arguments.out} holds no run to resume; leave out --resume to start one")
    if file and arguments.preset:
        raise UserError("--config and --preset are two answers to one question; give one of them")
    try:
        given = from_yaml(file.read_text(encoding="utf-8")) if file else None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {file} cannot be read: {error}") from error
    config = given or (_settings_of(start) if start and not arguments.preset else preset(arguments.preset or "tiny"))
    data = getattr(arguments, "data", None)
    more = ([f"data.source={data}"] if data else []) + ([f"task.checkpoint={start}"] if start else [])
    return override(config, more + arguments.settings)


def _settings_of(start: Path):
    """The configuration of the run that another one begins with."""
    from semmim_mini.training import checkpoint

    return checkpoint.read_fitting_config(checkpoint.find(start))


def _ablate(arguments) -> int:
    from semmim_mini.ablation.driver import Plan, require_sensible, run_ablation

    told = (arguments.rows, arguments.sweeps, arguments.task_rows)
    rows, sweeps, tuned = (tuple(name for name in text.split(",") if name) for text in told)
    plan = Plan(rows, sweeps, arguments.seeds, arguments.task_steps, arguments.jobs, arguments.first_phase, tuned)
    require_sensible(plan)
    return 0 if run_ablation(arguments.out, _configuration(arguments), plan) else 130


def _bench(arguments) -> int:
    from semmim_mini.bench import run_bench

    return run_bench(_configuration(arguments), arguments.out, growth=not arguments.no_growth)


def _plan(arguments) -> int:
    from semmim_mini.plan import Wanted, run_plan

    if not arguments.config:
        arguments.preset = arguments.preset or "base"
    wanted = Wanted(
        gpus=arguments.gpus,
        gpu=arguments.gpu,
        images=arguments.images,
        epochs=arguments.epochs,
        utilisation=arguments.utilisation,
        per_node=arguments.gpus_per_node,
    )
    return run_plan(_configuration(arguments), wanted, as_json=arguments.json, measure=arguments.measure)


def _check(arguments) -> int:
    from semmim_mini.check import run_check

    return run_check()


if __name__ == "__main__":
    sys.exit(main())
