"""The pages that an auditor files: of a model, which rules explain it; of a compiled file, whether it is what it says it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from onnxdtd.compiler.groups import by_layer
from onnxdtd.contract import COLUMNS, KEPT
from onnxdtd.report.charts import Chart, stacks, style
from onnxdtd.report.page import Cell, Json, Page, Section, Table
from onnxdtd.report.sources import sources, which_score
from onnxdtd.study.accounts import in_layers
from onnxdtd.study.words import conjoined, counted

Steps = Sequence[tuple[str, str, str]]  # node, operators, and rule or what else happens there
RESULTS = {True: ("passed", "passed"), False: ("FAILED", "failed"), None: ("remark", "count")}
NAMED = 2  # nodes of a group that are named
HANDED = {  # what happens where there is no rule
    "pass": "each entry hands its relevance on as it is",
    "route": "only the entries that were chosen, as by a maximum, get any",
    "move": "relevance goes back to where entries came from",
}
QUESTIONS = {  # what a check asks, by its name
    "source": "Is the file that was given the one it was compiled from?",
    "digest": "Are nodes and weights of the predictor those that were recorded?",
    "version": "Was it compiled by this version?",
    "predictor": "Are the predictor's nodes and weights those of the source?",
    "relevance pass": "Are the added nodes those that a compile adds?",
    "metadata": "Does it say of itself what a compile says?",
    "compiled anew": "Does a compile give the same file?",
    "external weights": "Are weights in other files those of the source?",
    "runs": "Can it be run?",
    "prediction": "Does it predict what the predictor alone predicts?",
    "shapes": "Has relevance the shape and type of what it explains?",
    "score": "Is the explained score what the logits say?",
    "finite": "Are there numbers everywhere?",
    "samples": "Does a sample's relevance depend on that sample alone?",
    "relevance": "Is relevance what the rules, step by step, give?",
    "complete": "Does relevance add up to the difference from the baseline?",
    "sum": "Does relevance add up to what arrives at the input?",
    "balance": "Does every layer account for what it takes in?",
    "logit": "What became of the explained logit?",
    "positive": "Has all relevance the sign of the logit?",
    "logits": "Are explained logits above 0?",
    "biases": "Are there positive biases, for which deep Taylor's root points do not exist?",
    "inputs of z+": "Are inputs below 0, which z⁺ takes for 0 or above?",
    "bounds": "Do inputs lie where the bounds say?",
    "optimisations": "With which of the runtime's optimisations was it compared?",
}


# ----------------------------------------------------------------------------------------------------------------- inspection


def inspection_page(result: Json) -> Page:
    """From the JSON of ``inspect``: the rules of a model, or what stands in the way of them."""
    file = result["file"]
    title = f"How {file['name']} is explained"
    if "problems" in result:
        return _refused(title, result)
    steps: Steps = [(s["node"], s["op"], s["rule"] or s["kind"]) for s in result["steps"]]
    ruled, lead = len(set(by_layer([s["node"] for s in result["steps"] if s["rule"] is not None]))), _lead(result)
    cost = result["multiply_adds"]
    ratio = (cost["prediction"] + cost["explanation"]) / max(cost["prediction"], 1)
    share = "shares" if ruled == 1 else "share"
    by = f" by {counted(len(result['rules']), 'rule')}" if result["rules"] else ""
    said = [
        f"Explained is {which_score(result['provenance']['explained'])}.",
        f"{counted(ruled, 'layer')} of {counted(len(steps), 'step')} {share} relevance out{by}; the others hand it on."
        if ruled
        else f"Relevance is a derivative of the score, taken through {counted(len(steps), 'step')}.",
        "What it costs depends on sizes that are known at run time only."
        if any(step["open"] for step in result["steps"])
        else f"Prediction and explanation together take {ratio:.1f} times the multiply-adds of a prediction.",
    ]
    parts = [_notes(result), _model(file, result), _offers(result), *_rules(result["rules"], steps), _kernels(result)]
    sections = [part for part in [*parts, sources(result)] if part is not None]
    return Page(title, lead, [("Every step can be explained", said)], sections, [], paper=True)


def _lead(result: Json) -> str:
    """The preset, what it does, and who says so."""
    title, source = result["preset_title"], result["preset_source"]
    return f"preset {result['preset']}" + (f": {title}" if title else "") + (f" ({source})" if source else "")


def _refused(title: str, result: Json) -> Page:
    """What stands in the way, node by node."""
    problems = result["problems"]
    rows = [(p["node"] or p["op"], p["op"], [Cell(p["reason"]), Cell(p["way_out"])]) for p in problems]
    table = Table("Nodes", ["why relevance cannot pass", "way out"], rows, words=True)
    said = [
        f"{counted(len(problems), 'node')} between the input and the scores {'has' if len(problems) == 1 else 'have'} no rule, "
        "and no relevance is made up for them."
    ]
    sections = [Section("What stands in the way", tables=[table]), _model(result["file"], result)]
    return Page(title, "refused", [("This model is refused", said)], sections, [], paper=True, bad=True)


def _notes(result: Json) -> Section | None:
    return Section("Notes", list(result["notes"])) if result.get("notes") else None


def _offers(result: Json) -> Section:
    """What may be asked for instead."""
    rows = [(str(offer["output"]), ", ".join(offer["axes"]), [Cell(" or ".join(offer["ways"]))]) for offer in result["outputs"]]
    known = [("labels", "", [Cell(str(_few(result["labels"])))])] if result["labels"] else []
    return Section("What else can be explained", tables=[Table("Outputs", ["how to choose"], [*rows, *known], words=True)])


def _kernels(result: Json) -> Section | None:
    """The nodes that run elsewhere than on the provider asked for."""
    found = result.get("kernels")
    if found is None:
        return None
    rows = [
        (row["node"], "added" if row["added"] else "predictor", [Cell(row["op"]), Cell(row["why"])]) for row in found["lacking"]
    ]
    text = f"Of {counted(found['predictor'] + found['added'], 'node')}, {len(rows)} have no {found['provider']} kernel in ONNX "
    tables = [Table("Nodes without one", ["operator", "kernels there"], rows, words=True)] if rows else []
    return Section(f"Kernels for {found['provider']}", [f"{text}Runtime {found['version']}."], tables=tables)


# --------------------------------------------------------------------------------------------------------------- verification


def verification_page(result: Json) -> Page:
    """From the JSON of ``verify``: the verdict, every check with its finding, the balance of every layer."""
    checks, told = result["checks"], result["provenance"]
    counts = {passed: sum(check["passed"] is passed for check in checks) for passed in RESULTS}
    said = [
        f"It says that it explains {which_score(told['explained'])}, by the preset {conjoined(told['presets'])}."
        if told["presets"]
        else "",
        f"{counted(counts[True], 'check')} passed, {counts[False]} failed; {counted(counts[None], 'remark')}.",
        *(f"{check['name']}: {check['finding']}." for check in checks if check["passed"] is False),
    ]
    lead = f"compiled by onnxdtd {result['compiled_by']}, preset {conjoined(told['presets'])}"
    rules: Mapping[str, str] = next(iter(told["rules"].values()), {})
    steps: Steps = [(node, "", rule) for node, rule in rules.items()]
    parts = [_checks(checks), _balance(result["steps"]), _notes(result), _model(result["file"], result)]
    parts += [*_rules(result.get("rules", {}), steps), sources(result)]
    verdict = result["verdict"]
    heading = f"Passed: it {verdict}" if result["passed"] else verdict
    sections = [part for part in parts if part is not None]
    title = f"Verification of {result['file']['name']}"
    return Page(title, lead, [(heading, [*filter(None, said)])], sections, [], paper=True, bad=not result["passed"])


def _checks(checks: Sequence[Json]) -> Section:
    """Every question with its answer."""
    rows = [
        (str(check["name"]), QUESTIONS.get(check["name"], ""), [Cell(*RESULTS[check["passed"]]), Cell(str(check["finding"]))])
        for check in checks
    ]
    text = "A remark is worth knowing and decides nothing. One check that failed, and the file is not what it says it is."
    return Section("Checks", [text], tables=[Table("What was checked", ["result", "finding"], rows, words=True, shown=True)])


def _balance(steps: Sequence[Json]) -> Section | None:
    """What every layer took in, handed on and kept."""
    if not steps:
        return None
    layers = in_layers(steps)
    amounts = [name for name in ("in", "out", *KEPT, "negative") if any(step[name] for step in steps)]
    rows = [
        (
            f"{i}. {step['step']}",
            str(step["rule"]) + (f", {step['count']:,} steps" if step["count"] > 1 else ""),
            [*(Cell(_percent(step[name])) for name in amounts), Cell(f"{step['positive_biases']:.0f}")],
        )
        for i, step in enumerate(layers, 1)
    ]
    table = Table("From the scores to the input", [*amounts, "biases > 0"], rows)
    meanings = "; ".join(f"{name}: {COLUMNS[name].removesuffix('.')}" for name in amounts)
    text = (
        "Relevance as shares of the explained logit, signs taken from it, means over the inputs: in = out + all that is kept. "
        "“biases > 0” counts the neurons that have one."
    )
    unrolled = (
        "A recurrent layer has one row for all of its steps that do the same: what they keep is added up, and as the same "
        "relevance goes through one after the other, in and out are not. The JSON of the command has each step."
    )
    parts = [name for name in amounts if name not in ("in", "negative")]
    words = {"out": "handed on", **{name: f"kept: {name}" for name in KEPT}}
    legend = [(style(i), words[name]) for i, name in enumerate(parts)]
    charts = _bars(layers, parts) if len(layers) == len(steps) else []
    return Section(
        "The balance of every layer",
        [text, *([unrolled] if len(layers) < len(steps) else []), f"{meanings}."],
        legend=legend if charts else [],
        charts=charts,
        tables=[table],
        stacked=True,
    )


def _bars(steps: Sequence[Json], parts: Sequence[str]) -> list[Chart]:
    """What each layer makes of the relevance that it takes in; nothing of a single one, nor where no relevance arrives."""
    if len(steps) < 2 or not parts:
        return []
    series = [(style(i), [100 * float(step[name]) for step in steps]) for i, name in enumerate(parts)]
    return [stacks("What becomes of the relevance in each layer", series, "layer, as numbered below", "% of the logit")]


def _percent(share: float | None) -> str:
    """Of the logit; nothing where it is nothing."""
    return "" if share is None else f"{share:.2%}" if abs(share) >= 5e-5 else "~0" if share else "0"


# --------------------------------------------------------------------------------------------------------------- what both have


def _model(file: Json, result: Json) -> Section:
    """What is in the file."""
    facts: dict[str, Any] = {
        "exporter": file["exporter"],
        "ONNX": ", ".join(f"{domain} {version}" for domain, version in file["opsets"].items()) + f" (IR {file['ir_version']})",
        "nodes": f"{file['nodes']:,}" + (f", {added:,} of them added" if (added := file.get("added")) is not None else ""),
        "parameters": f"{file['parameters']:,}",
        **{f"input {value['name']}": _typed(value) for value in file["inputs"]},
        **{f"output {value['name']}": _typed(value) for value in file["outputs"]},
        "what is done to it first": "; ".join(result.get("changes") or ()) or None,
        "SHA-256": result["digests"]["file"],
        "SHA-256 of the predictor": result["digests"]["predictor"],
    }
    rows = [(name, "", [Cell(str(told))]) for name, told in facts.items() if told is not None]
    return Section("The model", tables=[Table("The file", ["value"], rows, words=True)])


def _typed(value: Json) -> str:
    sizes = value["shape"]
    return str(value["type"]) if sizes is None else f"{value['type']} [{', '.join(map(str, sizes))}]"


def _rules(rules: Mapping[str, Json], steps: Steps) -> Iterator[Section]:
    """The equations of the rules with their sources, and where each holds: in groups, and step by step."""
    if rules:
        rows = [
            (name, counted(rule["layers"], "layer"), [Cell(rule["equation"]), Cell(rule["domain"]), Cell(rule["source"])])
            for name, rule in rules.items()
        ]
        yield Section("The rules", tables=[Table("Equations and sources", ["equation", "domain", "source"], rows, words=True)])
    if not steps:
        return
    groups: dict[tuple[str, str], list[str]] = {}
    for node, op, rule in steps:
        groups.setdefault((rule, op), []).append(node)
    rows = [(rule, op, [Cell(f"{len(nodes):,}", "count"), Cell(_few(nodes))]) for (rule, op), nodes in groups.items()]
    tables = [Table("In groups", ["steps", "from … to"], rows, words=True)]
    if len(groups) < len(steps):
        layers: dict[tuple[str, str, str], list[str]] = {}
        for layer, (node, op, rule) in zip(by_layer([node for node, _, _ in steps]), steps, strict=True):
            layers.setdefault((layer, op, rule), []).append(node)
        single = [
            (layer, op, [Cell(f"{rule}, {len(nodes):,} steps")]) if len(nodes) > 1 else (nodes[0], op, [Cell(rule)])
            for (layer, op, rule), nodes in layers.items()
        ]
        tables.append(Table("Step by step", ["rule"], single, words=True, shown=False))
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in HANDED.items() if any(rule == kind for *_, rule in steps))
    made = "Nodes whose names begin with dtd/ are none of the file: what one of its nodes amounts to, a step of it say."
    text = ["From the input to the scores." + (f" Without a rule: {kinds}." if kinds else "")]
    text += [made] if any(node.startswith("dtd/") for node, *_ in steps) else []
    yield Section("The rule of every layer", text, tables=tables)


def _few(names: Iterable[Any]) -> str:
    """All of a few names, of many the first and the last."""
    known = [str(name) for name in names]
    return ", ".join(known) if len(known) <= NAMED + 1 else f"{known[0]} … {known[-1]}"
