"""Plants faults in the package, one at a time, and checks that the tests notice each.

A fault is an expression or a statement of one function, class or table, and another in place of it. It is found by its syntax
tree, exactly once, so that neither spacing nor other code of the module matters. It is planted in a copy of the project, never
here, and only the tests named with it run, which the whole suite does as well. Exit status 1 if a fault survives.

    scripts/check/mutants.py                  all of them, on two processes
    scripts/check/mutants.py --only pad       those with "pad" in what they do or in their module
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import cache_from_source
from itertools import accumulate
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds for the tests of a fault, which take a few


@dataclass(frozen=True)
class Fault:
    """What is wrong; the module, and in it the qualified name of the function, class or table; the source of the expression or
    statement there and of the wrong one; the tests that must see it: ``operators/linear``, ``operators/linear::test_adjoint``.
    """

    what: str
    module: str
    within: str
    old: str
    new: str
    tests: str

    @property
    def file(self) -> str:
        """Where it is planted: a Python module, or a table of rules."""
        return f"{self.module}.toml" if self.module.startswith("rules/") else f"onnxdtd/{self.module}.py"


@dataclass(frozen=True)
class Outcome:
    """A fault and the first test that failed, None if none did."""

    fault: Fault
    caught_by: str | None
    seconds: float


FAULTS = [
    Fault(
        "the digest of a predictor counts what was added to it",
        "graph/digests",
        "_lines",
        "list(getattr(graph, name))[: sizes.get(name)]",
        "list(getattr(graph, name))",
        "graph/digests::test_all_compiles_of_a_source_have_its_predictor",
    ),
    Fault(
        "the digest of a predictor does not look at its weights",
        "graph/digests",
        "_lines",
        'f"{digest} {_values(tensor, folder)}"',
        'f"{digest} {digest}"',
        "graph/digests::test_whatever_is_computed_with_changes_the_predictor",
    ),
    Fault(
        "what a worker had when it died is done by nobody",
        "study/cluster",
        "Crew._bury",
        "self._todo.appendleft(unit)",
        "self._todo",
        "study/cluster::test_all_units_come_once_whoever_dies",
    ),
    Fault(
        "which class a list asks for is known when it is read, and forgotten when it is explained",
        "study/inputs",
        "Reader._sample",
        "_first(sample.target, given.target)",
        "sample.target",
        "study/inputs::test_a_column_of_a_list_says_which_class_of_each_sample_is_explained",
    ),
    Fault(
        "models are sent to other machines without their external weights",
        "study/luggage",
        "Luggage.packed",
        "(model.name, *files.locations(files.read(model).proto))",
        "(model.name,)",
        "study/abroad::test_an_evaluation_is_as_in_one_process",
    ),
    Fault(
        "results of other machines call presets as they are called there",
        "study/abroad",
        "Visitor._done",
        "self._there.at_home(self._work(unit))",
        "self._work(unit)",
        "study/abroad::test_an_evaluation_is_as_in_one_process",
    ),
    Fault(
        "the last file of a folder in a store stays while others change",
        "data/remote",
        "put_folder",
        "_remove(remote, [name for name in before if name == last])",
        "_remove(remote, [])",
        "data/remote::test_a_folder_is_whole_once_its_last_file_is_there",
    ),
    Fault(
        "a store that is out of reach has samples skipped",
        "data/remote",
        "asked",
        'raise OnnxdtdError(f"{remote}: {reason}") from None',
        'raise RequestError(f"{remote}: {reason}") from None',
        "data/remote::test_what_is_not_there_is_a_fault_of_the_file_and_all_else_is_none",
    ),
    Fault(
        "only the last frame of an animated picture counts as pixels",
        "data/pixels",
        "pictures",
        "pixels += image.width * image.height",
        "pixels = image.width * image.height",
        "data/read::test_a_picture_of_few_bytes_and_many_pixels",
    ),
    Fault(
        "a cell of a table may give orders to the terminal",
        "cli/screen",
        "print_table",
        "columns, rows = [*map(harmless, columns)], [[*map(harmless, row)] for row in rows]",
        "rows = [[*map(harmless, row[:1]), *row[1:]] for row in rows]",
        "cli/screen::test_what_a_terminal_would_obey_is_spelled_out",
    ),
    Fault(
        "of a column's categories the last one's relevance stands for all",
        "study/columns",
        "Columns.relevance",
        "np.add.at(whole.T, columns, part.reshape(len(part), -1).T)",
        "whole.T.__setitem__(columns, part.reshape(len(part), -1).T)",
        "study/columns::test_columns_become_what_is_typical",
    ),
    Fault(
        "categories become the mean of their numbers",
        "study/columns",
        "Columns.typical",
        "self.categories",
        "np.zeros_like(self.categories)",
        "study/columns::test_columns_become_what_is_typical",
    ),
    Fault(
        "a unit is compared with itself alone",
        "study/gallery",
        "Gallery.__call__",
        "self._references() if unit else None",
        "None",
        "study/gallery::test_a_heatmap_of_a_later_unit_is_compared_with_those_of_the_first",
    ),
    Fault(
        "what is missing has the wrong sign",
        "study/results",
        "Result.missing",
        "self.whole - self.relevance_sum",
        "self.relevance_sum - self.whole",
        "study/gallery::test_the_head_of_the_results_says_where_they_come_from",
    ),
    Fault(
        "pieces of other sizes are put into one array",
        "study/saved",
        "shapes",
        "known.shape[1:] != array.shape[1:]",
        "False",
        "study/saved::test_what_differs_in_size_has_an_array_each",
    ),
    Fault(
        "the picture before shows through",
        "data/again",
        "Template.png",
        "self._canvas.restore_region(self._rest)",
        "0",
        "data/again::test_a_picture_does_not_depend_on_those_before_it",
    ),
    Fault(
        "the direction of a feature is turned round where parts are put together",
        "study/ranking",
        "Moments.__add__",
        "self.xr + other.xr + dx * dr * weight",
        "self.xr + other.xr - dx * dr * weight",
        "study/ranking::test_sums_of_units_are_those_of_the_whole",
    ),
    Fault(
        "of the categories of a column only the first has a bar",
        "data/features",
        "Features.member",
        "entry.place if entry.category else i",
        "i",
        "data/bars::test_categories_of_a_column_are_one_bar_in_words_of_the_file",
    ),
    Fault(
        "the label is a feature",
        "data/tables",
        "rows",
        "rest.remove(guess)",
        "rest.remove(rest[0])",
        "data/tables::test_labels_and_names_of_samples",
    ),
    Fault(
        "signs are explained where logits are positive",
        "report/page",
        "below",
        "z < 0",
        "z > 0",
        "report/report::test_signs_are_explained_where_a_logit_is_negative",
    ),
    Fault(
        "the page of a file that explains any class lets choose none",
        "report/browser",
        "_target",
        "chosen or not isinstance(fixed, int)",
        "not chosen and not isinstance(fixed, int)",
        "report/site::test_a_folder_has_all_that_the_page_loads",
    ),
    Fault(
        "a page is written in place of a folder with other files",
        "report/site",
        "_check_free",
        "found - OWN - {path.name for path in STATIC.iterdir()}",
        "set()",
        "report/site::test_a_page_is_replaced_and_nothing_else",
    ),
    Fault(
        "the library of tokens is looked for beside the runtime alone",
        "report/site",
        "_library",
        "(beside, MODULES)",
        "(beside,)",
        "report/site::test_what_is_missing_is_said_with_its_command",
    ),
    Fault(
        "what is kept is stacked the other way round",
        "report/charts",
        "stacks",
        "value > 0",
        "value < 0",
        "report/charts::test_stacks_reach_as_far_as_their_sums",
    ),
    Fault(
        "of data only the beginning of each piece counts",
        "study/provenance",
        "digest",
        "file.read(PIECE)",
        "file.read(PIECE)[:1]",
        "study/provenance::test_files_have_one_digest_in_their_order",
    ),
    Fault(
        "smoothing loses relevance at the edges",
        "data/smooth",
        "smoothed",
        "'symmetric'",
        "'constant'",
        "data/smooth::test_a_gaussian_mirrored_at_the_edges",
    ),
    Fault(
        "a scale for all forgets that relevance differs in size",
        "data/scale",
        "shared",
        "max(shares) * s.total",
        "max(shares)",
        "data/scale::test_a_shared_scale_has_one_end_for_all",
    ),
    Fault(
        "the lowest classes for the highest",
        "study/gallery",
        "View.explain",
        "-first.scores",
        "first.scores",
        "study/ways::test_explanations_are_those_of_each_alone",
    ),
    Fault(
        "signals: a kernel slides over the electrodes that it takes in all at once",
        "operators/places",
        "_reached",
        "size != 1 and (size != there or left != 1)",
        "size != 1",
        "operators/places::test_the_axes_that_the_first_kernel_slides_over",
    ),
    Fault(
        "signals: regions are squares of electrodes and time",
        "data/forms",
        "Form.neighbours",
        "self.slides",
        "()",
        "study/perturb::test_regions_of_signals_and_features",
    ),
    Fault(
        "signals: axes of a clip in a file change places",
        "data/arrangement",
        "Arrangement.back",
        "np.argsort(axes)",
        "axes",
        "data/recordings::test_an_animated_picture_in_every_layout",
    ),
    Fault(
        "signals: relevance is drawn where other steps are",
        "data/traces",
        "Drawn.of",
        "stretches(relevance, STRETCHES)",
        "stretches(relevance[:, ::-1], STRETCHES)",
        "data/traces::test_relevance_of_a_long_signal_lies_at_its_time",
    ),
    Fault(
        "what becomes of a copy at another point is forgotten",
        "graph/emit",
        "Emit.again",
        "tensor.readers = own.readers",
        "pass",
        "operators/attention::test_rows_without_a_key_have_a_gradient_at_other_points_too",
    ),
    Fault(
        "the sum of relevance leaves out what is apart",
        "study/presenter",
        "Presenter.explain",
        "float(relevance.sum(dtype=np.float64)) + sum(further.values())",
        "float(relevance.sum(dtype=np.float64))",
        "cli/lines::test_the_sum_of_relevance_is_that_of_tokens_and_of_what_is_apart",
    ),
    Fault(
        "pieces of a word are not all summed",
        "data/readings",
        "summed",
        "sum(p.relevance for p in pieces)",
        "pieces[0].relevance",
        "data/readings::test_pieces_of_a_word_are_summed_and_nothing_is_lost",
    ),
    Fault(
        "padding counts as a token of the text",
        "data/tokens",
        "Tokens.values",
        "[not token.padding for token in tokens]",
        "[True for token in tokens]",
        "data/tokens::test_a_fixed_length_pads_and_cuts",
    ),
    Fault(
        "a letter of several tokens is read several times",
        "data/readings",
        "stretches",
        "text[max(token.start, end) : token.end]",
        "text[token.start : token.end]",
        "data/readings::test_no_letter_is_read_twice_or_left_out",
    ),
    Fault(
        "softmax hands on what its expansion keeps",
        "operators/norms",
        "expanded_softmax",
        'e("Sub", r, e("Mul", _without_nan(e, y), total))',
        'e("Add", r, e("Mul", _without_nan(e, y), total))',
        "operators/attention::test_shares_of_a_transformer_block",
    ),
    Fault(
        "a masked score is multiplied by its relevance, 0",
        "operators/norms",
        "expanded_softmax",
        'e("Where", e("Greater", x, MASKED), x, 0.0)',
        "x",
        "operators/attention::test_both_forms_are_one_without_a_stabiliser",
    ),
    Fault(
        "rows of the weights of attention have the scales of columns",
        "graph/attended",
        "quantised",
        'write("DequantizeLinear", *filter(None, [weights, own, shift]), axis=1)',
        'write("DequantizeLinear", *filter(None, [weights, own, shift]), axis=0)',
        "graph/fused::test_what_an_operator_amounts_to",
    ),
    Fault(
        "half precision is read by a Cast",
        "graph/emit",
        "Emit._readable",
        "theirs and _key(op, [half], attrs, 1) not in self._cache",
        "not theirs",
        "compiler/half::test_the_prediction_is_that_of_the_source_bit_by_bit",
    ),
    Fault(
        "the gate of a gated linear unit has half",
        "operators/products",
        "_activated",
        "len(bent) == 1",
        "len(bent) == 3",
        "operators/attention::test_a_gated_linear_unit",
    ),
    Fault(
        "what multiplies by a mask passes relevance as preprocessing does",
        "compiler/steps",
        "Stepper.masks",
        "not bounded",
        "bounded",
        "compiler/steps::test_tokens_that_are_masked_have_nothing",
    ),
    Fault(
        "an index of as many rows as are chosen from mixes them",
        "operators/spread",
        "picked",
        "i != axis and other is None",
        "i == axis and other is None",
        "operators/positions::test_gradient_and_relevance",
    ),
    Fault(
        "the name that inputs have for a size is not heeded",
        "operators/axes",
        "Axes._among",
        'alike.get(names.get(factor, ""), factor)',
        "factor",
        "operators/positions::test_sizes_that_inputs_call_by_one_name",
    ),
    Fault(
        "the state of a padded step goes on",
        "graph/recurrent",
        "_direction",
        'write("Where", alive[t], *pair) if alive else pair[0]',
        "pair[0]",
        "graph/recurrent::test_the_gradient_is_that_of_the_definition",
    ),
    Fault(
        "the gate takes what a constant initial state is due",
        "graph/recurrent",
        "_begun",
        'cell.write("Where", never, cell.dense(x, "w", ""), state or cell.write.number(0.0))',
        "state or cell.write.number(0.0)",
        "graph/recurrent::test_what_initial_states_take_is_in_the_ledger",
    ),
    Fault(
        "steps behind the end of an open length are steps",
        "graph/recurrent",
        "_write",
        'write("Min", lengths, kept) if told else kept',
        "lengths",
        "graph/recurrent::test_an_open_length",
    ),
    Fault(
        "a sequence of open length is cut off",
        "graph/recurrent",
        "StepWriter.filled",
        'self("Sub", self.whole(steps), length)',
        'self("Max", self("Sub", self.whole(steps), length), self.whole(0))',
        "graph/recurrent::test_a_longer_input_is_an_error",
    ),
    Fault(
        "what is cut off at an end that is computed stands in front",
        "operators/moves",
        "sliced",
        'e("Concat", r, zeros, axis=axis)',
        'e("Concat", zeros, r, axis=axis)',
        "operators/moves::test_what_is_cut_off_at_an_end_that_is_computed",
    ),
    Fault(
        "both directions have the activations of the first",
        "graph/recurrent",
        "_functions",
        "slice(number * len(kind.usual), (number + 1) * len(kind.usual))",
        "slice(len(kind.usual))",
        "graph/recurrent::test_the_gradient_is_that_of_the_definition",
    ),
    Fault(
        "the branch of an If that is not taken",
        "graph/unrolled",
        "Unroller.branch",
        '"then_branch" if self.number(node.input[0]) else "else_branch"',
        '"else_branch" if self.number(node.input[0]) else "then_branch"',
        "graph/unrolled::test_prediction_and_gradient",
    ),
    Fault(
        "a turn too few",
        "graph/unrolled",
        "Unroller.turns",
        "goes_on and turn < most",
        "goes_on and turn + 1 < most",
        "graph/unrolled::test_a_loop_with_a_known_number_of_turns",
    ),
    Fault(
        "words are added to what is added to them",
        "compiler/apart",
        "_taken_apart",
        'e("Mul", x, 0.0)',
        'e("Mul", x, 1.0)',
        "compiler/apart::test_each_has_its_part_of_a_sum",
    ),
    Fault(
        "a mask of samples that lie behind the channels is not turned",
        "compiler/masks",
        "Mask.let",
        "self.samples > self.channels",
        "False",
        "compiler/masks::test_samples_behind_the_channels",
    ),
    Fault(
        "slopes and factors are those of the input, not of the baseline",
        "compiler/plan",
        "_moved",
        "list(map(where, node.inputs))",
        "list(node.inputs)",
        "compiler/baseline::test_taylor",
    ),
    Fault(
        "what is chosen at another point is what was at the input",
        "compiler/plan",
        "_moved",
        "list(map(where, node.outputs))",
        "[where(node.outputs[0]), *node.outputs[1:]]",
        "compiler/paths::test_what_is_chosen_is_another_choice_there",
    ),
    Fault(
        "integrated gradients are those of twice the way",
        "compiler/paths",
        "Way._along",
        "weights / 2",
        "weights",
        "compiler/paths::test_integrated_gradients",
    ),
    Fault(
        "the half without a root is searched",
        "compiler/paths",
        "Way._at_root",
        'e("Greater", along(f), 0.0)',
        'e("Less", along(f), 0.0)',
        "compiler/paths::test_root",
    ),
    Fault(
        "a preset is chosen by the samples that it is reported on",
        "study/tune",
        "Tuning.assemble",
        "values[start::2]",
        "values",
        "study/tune::test_what_is_chosen_does_not_depend_on_the_half_to_report_on",
    ),
    Fault(
        "the heatmap of a channel has what bypasses it",
        "study/concepts",
        "Concepts.__call__",
        "heatmap - around",
        "heatmap",
        "study/concepts::test_channels_and_heatmaps_by_hand",
    ),
    Fault(
        "a Concat that is masked is gone through by others",
        "compiler/addition",
        "_addition",
        "[*request.keep, *request.mask]",
        "request.keep",
        "compiler/masks::test_a_masked_concat_is_not_gone_through_by_others",
    ),
    Fault(
        "what is below its reference, by the neuron of what is above",
        "compiler/score",
        "score",
        "request.reference is not None and made.method.divides",
        "False",
        "compiler/reference::test_it_is_the_neuron_with_the_bias_less_the_reference",
    ),
    Fault(
        "below −t the neuron of t",
        "compiler/neuron",
        "_Writer.summand",
        "alone and isinstance(slot.w, float) and slot.w < 0",
        "False",
        "compiler/score::test_the_nearest_mean_wins",
    ),
    Fault(
        "the parts of the other side",
        "graph/decisions",
        "Near.weights",
        'e("Sub", e("Mul", level_p, q), e("Mul", level_q, p))',
        'e("Sub", e("Mul", level_q, q), e("Mul", level_p, p))',
        "graph/machines::test_relevance_of_an_rbf_decision",
    ),
    Fault(
        "coefficients of a pair of classes in the other one's row",
        "graph/machines",
        "_of_pairs",
        "((i, j - 1), (j, i))",
        "((i, i), (j, j - 1))",
        "graph/machines::test_classes_and_their_gradient",
    ),
    Fault(
        "a dynamically quantised layer on what was not rounded",
        "graph/dynamic",
        "_rounded",
        'e("Round", e("Div", x, scale))',
        'e("Div", x, scale)',
        "graph/dynamic::test_relevance_is_that_of_the_dequantised_layer",
    ),
    Fault(
        "a fused attention without its padding",
        "graph/attended",
        "_within",
        'write("Not", write("Less", places, start))',
        'write("Less", places, end)',
        "graph/fused::test_what_an_operator_amounts_to",
    ),
    Fault(
        "the bias of a fused skip is that of both",
        "graph/fused",
        "_total",
        'write("Add", write("Add", x, bias) if bias else x, skip, result=total)',
        'write("Add", x, skip, result=total)',
        "graph/fused::test_what_an_operator_amounts_to",
    ),
    Fault(
        "attention without its scale",
        "graph/attended",
        "of_the_standard",
        "size**-0.5",
        "1.0",
        "graph/bodies::test_the_gradient_is_that_of_the_definition",
    ),
    Fault(
        "a pooled map read as long as onnx counts it",
        "graph/emit",
        "Emit.multi",
        "key not in self._cache and any(t.name in self._misjudged for t in tensors)",
        "False",
        "compiler/nets::test_ceil_mode_where_the_last_window_starts_in_the_padding",
    ),
    Fault(
        "sizes that are not known taken for known",
        "graph/known",
        "Numbers._measured",
        "[size is not None for size in sizes]",
        "[True for size in sizes]",
        "graph/told::test_sizes_that_are_known_among_others_that_are_not",
    ),
    Fault(
        "a picture resized by the factor of the other axis",
        "operators/resized",
        "resize",
        "_named(node, rank).index(axis)",
        "_named(node, rank).index(axis) - 1",
        "operators/linear::test_inner_product",
    ),
    Fault(
        "a neuron that two terms share goes on twice",
        "compiler/neuron",
        "_Writer.enter",
        "known.outputs[0] is not step.outputs[0]",
        "known.outputs[0] is not None",
        "compiler/neuron::test_a_map_of_one_logit_is_added_to_itself",
    ),
    Fault(
        "pictures of old operator sets taken from elsewhere",
        "graph/normal",
        "_keep_meanings",
        '"asymmetric"',
        '"half_pixel"',
        "graph/normal::test_a_picture_is_resized_as_before",
    ),
    Fault(
        "the first of what an id looks up for all of it",
        "compiler/ends",
        "_back",
        'e("ReduceSum", r, link.lookup.summed, keepdims=0)',
        'e("ReduceMax", r, link.lookup.summed, keepdims=0)',
        "compiler/ends::test_ids_have_the_relevance_of_what_they_look_up",
    ),
    Fault(
        "relevance goes on below a named tensor",
        "compiler/ends",
        "above",
        "not any(t.name in cut for t in node.outputs)",
        "True",
        "compiler/ends::test_one_named_tensor_cuts_off_another",
    ),
    Fault(
        "relevance goes to what something is looked up by",
        "compiler/facts",
        "read_as_values",
        "looks_up is None or i >= len(node.inputs) or looks_up(node, i) is None",
        "True",
        "compiler/ends::test_what_only_picks_has_no_relevance",
    ),
    Fault(
        "share of a term without its sign",
        "method/propagate",
        "shared",
        "branch.scale * term.sign",
        "branch.scale",
        "method/propagate::test_a_rule_of_a_file_that_means_the_same_gives_the_same",
    ),
    Fault(
        "adjoints of several weights exchanged",
        "method/propagate",
        "adjoints",
        "range(len(weights))",
        "reversed(range(len(weights)))",
        "method/propagate",
    ),
    Fault(
        "what a bias keeps of R is forgotten",
        "method/propagate",
        "divided",
        "replace(division, kept=kept)",
        "division",
        "compiler/ledger",
    ),
    Fault(
        "axes of size 0 taken for copies",
        "operators/linear",
        "_left_adjoint",
        'e("Reshape", product(s, w), e.shape(x), allowzero=1)',
        'e("Reshape", product(s, w), e.shape(x))',
        "compiler/nets::test_an_empty_batch_wherever_its_axis_is",
    ),
    Fault(
        "shape of an output believed",
        "graph/emit",
        "Emit.of_shape",
        "like.name in self._outputs",
        "False",
        "graph/emit",
    ),
    Fault(
        "batches of two names believed",
        "graph/emit",
        "_names_of_sizes",
        "len({shape[0] for shape in shapes}) != 1",
        "False",
        "graph/emit",
    ),
    Fault("MaxPool like the predictor's", "operators/moves", "max_pool", 'attrs["storage_order"] = 0', "pass", "compiler/nets"),
    Fault(
        "bias missing from the denominator",
        "method/propagate",
        "denominator",
        "signed if bias is None else [*signed, bias]",
        "signed",
        "method/propagate",
    ),
    Fault("sign(0) = 0", "method/division", "stabiliser", 'e("Add", z, 2.0**-100)', "z", "method/propagate"),
    Fault(
        "a dead denominator divides",
        "method/division",
        "reciprocal",
        'e("ThresholdedRelu", value, alpha=-float(np.nextafter(np.float32(2**112), np.float32(np.inf))))',
        "value",
        "method/propagate",
    ),
    Fault(
        "1 / z of the wrong sign",
        "method/division",
        "reciprocal",
        "sign * 2.0**127",
        "2.0**127",
        "method/propagate",
    ),
    Fault(
        "a part of what is no denominator",
        "method/division",
        "reciprocal",
        'e("HardSigmoid", e("Abs", inverse), alpha=-(2.0**-112), beta=2.0)',
        'e("HardSigmoid", e("Abs", inverse), alpha=-(2.0**-112), beta=2.5)',
        "method/division::test_operator_sets_divide_alike",
    ),
    Fault(
        "a number next to 0 is taken for part of one",
        "graph/portable",
        "_steep",
        'e("Mul", e("Mul", a if _is(b, 0.0) else e("Sub", a, b), side * far), far)',
        'e("Mul", a if _is(b, 0.0) else e("Sub", a, b), side * far)',
        "graph/portable::test_what_is_written_is_the_operator",
    ),
    Fault(
        "what lies outside of a pooling window wins it",
        "operators/windows",
        "adjoint_winner",
        "any(win.begin or [1]) or any(win.end or [1]) or ceil",
        "False",
        "operators/moves::test_max_pool",
    ),
    Fault(
        "a class that is ruled out makes all relevance no number",
        "graph/emit",
        "Emit.finite",
        '"Where" not in self.spelled',
        "True",
        "compiler/folded::test_ties_and_classes_that_are_ruled_out",
    ),
    Fault(
        "the copy of a tensor that a runtime misjudges is not cut",
        "graph/emit",
        "Emit.again",
        "own.name in self._misjudged",
        "False",
        "compiler/folded::test_a_copy_is_cut_like_the_tensor",
    ),
    Fault(
        "of equal winners the one that is first in its column",
        "operators/windows",
        "adjoint_max",
        "reversed(range(rank))",
        "range(rank)",
        "operators/moves::test_max_pool",
    ),
    Fault(
        "what is too much in front of an adjoint stays",
        "operators/windows",
        "adjoint_conv",
        "pads != exact[0]",
        "False",
        "operators/linear",
    ),
    Fault(
        "what is not less is equal",
        "graph/emit",
        "Emit.equal",
        'self("And", self("GreaterOrEqual", a, b), self("GreaterOrEqual", b, a))',
        'self("GreaterOrEqual", a, b)',
        "graph/emit::test_what_is_equal",
    ),
    Fault(
        "a kernel serves newer schemas",
        "graph/kernels",
        "_reason",
        "since in versions",
        "since >= min(versions)",
        "graph/kernels::test_reasons",
    ),
    Fault(
        "an endless bias taken off",
        "method/propagate",
        "denominator",
        "finite(e, e.cast(layer.b, y.dtype))",
        "e.cast(layer.b, y.dtype)",
        "compiler/numerics::test_a_class_that_is_ruled_out",
    ),
    Fault("x⁻ is x⁺", "method/terms", "INPUTS", 'e("Min", i.x, 0.0)', 'e("Relu", i.x)', "method/propagate"),
    Fault(
        "l and h exchanged",
        "method/terms",
        "Operand.high",
        "self.context.bounds(self.slot.x)[1]",
        "self.context.bounds(self.slot.x)[0]",
        "method/propagate",
    ),
    Fault("γ adds the other part", "method/terms", "MORE_NEGATIVE", "negative(e, w)", "positive(e, w)", "method/propagate"),
    Fault("a symbol of another number", "method/terms", "POSITIVE", "np.maximum(w, 0)", "np.abs(w)", "method/terms"),
    Fault("a sign that it has not", "method/terms", "POSITIVE", "1.0", "-1.0", "method/terms"),
    Fault("a rule with a bias is deep Taylor's", "method/rule", "Rule.is_deep_taylor", "b.bias is None", "True", "method/rule"),
    Fault(
        "β branch takes x⁻ w⁻", "rules/rules", "rule.alpha-beta", '["x+ w-", "x- w+"]', '["x+ w-", "x- w-"]', "method/propagate"
    ),
    Fault("no denominator is held", "operators/products", "denominators", "{1}", "set()", "method/method"),
    Fault(
        "treatment of any walk",
        "method/toml",
        "_check_treatment",
        "method.walks not in treatment.walks",
        "False",
        "method/method",
    ),
    Fault(
        "guided backpropagation lets what is negative through",
        "method/method",
        "positive",
        'e("Relu", first(g))',
        "first(g)",
        "method/method",
    ),
    Fault(
        "Clip is a Relu whatever its bound", "operators/pointwise", "clips_at_zero", "not low.any()", "True", "method/method"
    ),
    Fault(
        "Grad-CAM's weights are sums",
        "method/method",
        "class_activation",
        "count(e, x, positions, g.dtype)",
        "1.0",
        "compiler/maps",
    ),
    Fault(
        "what reaches the scores past the last map is not noticed",
        "compiler/maps",
        "last_map",
        "_depends(plan.steps, end.tensor, plan.logits, without=found)",
        "False",
        "compiler/maps",
    ),
    Fault(
        "positions behind a Slice are what they were",
        "compiler/maps",
        "_through",
        "entry.places is not places.still",
        "True",
        "compiler/maps",
    ),
    Fault("slope of what is bounded", "method/method", "slope", "site.is_bound", "False", "method/method"),
    Fault("w² is |w|", "method/terms", "WEIGHTS", "e.mul(w, w)", 'e("Abs", w)', "method/propagate"),
    Fault(
        "quantised output taken for the sum",
        "compiler/steps",
        "Stepper.linear",
        "replace(layer, exact=layer.exact and node.exact)",
        "layer",
        "graph/spelled::test_rounding_takes_no_relevance",
    ),
    Fault(
        "flipped kernel pads off by one",
        "operators/windows",
        "flipped_pads",
        "e - 1 - p",
        "e - p",
        "operators/windows operators/linear",
    ),
    Fault("kernel not mirrored", "operators/windows", "flip", "all(k == 1 for k in kernel)", "True", "operators/linear"),
    Fault(
        "groups not exchanged",
        "operators/windows",
        "flip",
        "[0, 2, 1, *(axis + 1 for axis in space)]",
        "[0, 1, 2, *(axis + 1 for axis in space)]",
        "operators/linear",
    ),
    Fault(
        "uneven output padding forgotten",
        "operators/windows",
        "transposed_pads",
        "max(uncovered, 0)",
        "0",
        "operators/windows operators/linear",
    ),
    Fault(
        "SAME_LOWER pads like SAME_UPPER",
        "operators/windows",
        "same_padding",
        "(total // 2, total - total // 2) if upper else (total - total // 2, total // 2)",
        "(total // 2, total - total // 2)",
        "operators/windows operators/linear",
    ),
    Fault(
        "average counts the padding",
        "operators/windows",
        "_share",
        'e("Div", means, count)',
        'e("Mul", means, 1 / np.prod(win.kernel))',
        "operators/linear",
    ),
    Fault("Gemm adjoint not transposed", "operators/linear", "gemm", "not tb", "tb", "operators/linear"),
    Fault(
        "adjoint of a square weight with the wrong sign",
        "operators/linear",
        "rows_back",
        'e("Neg", e("Gemm", s, w, alpha=-1.0, **flags))',
        'e("Gemm", s, w, alpha=-1.0, **flags)',
        "operators/linear",
    ),
    Fault(
        "square weights that OpenVINO confuses",
        "operators/layer",
        "reread",
        "square and isinstance(w, Tensor)",
        "False",
        "scripts/check/runtimes::test_square_weights",
    ),
    Fault(
        "subtrahend added",
        "operators/linear",
        "add",
        '-1.0 if node.op == "Sub" and position else 1.0',
        "1.0",
        "operators/linear",
    ),
    Fault(
        "residual counted twice",
        "operators/linear",
        "add",
        "sum_slot(e, term, y, sign)",
        "sum_slot(e, term, y, 2 * sign)",
        "operators/linear compiler/nets method/oracle",
    ),
    Fault(
        "mean is a sum on the way back",
        "operators/linear",
        "reduce",
        's = e("Div", s, count(e, x, axes, s.dtype))',
        "pass",
        "operators/linear",
    ),
    Fault(
        "BatchNormalization without ε",
        "operators/linear",
        "batch_norm",
        'float(node.attrs.get("epsilon", 1e-5))',
        "0.0",
        "operators/linear",
    ),
    Fault(
        "mean of a BatchNormalization not scaled",
        "operators/linear",
        "batch_norm",
        'e("Mul", mean, factor)',
        "mean",
        "operators/linear::test_inner_product",
    ),
    Fault(
        "last of equal winners",
        "operators/moves",
        "extreme_along",
        "e(search, rows, axis=-1, keepdims=1)",
        "e(search, rows, axis=-1, keepdims=1, select_last_index=1)",
        "operators/moves",
    ),
    Fault(
        "the sum from the other end includes what it should leave out",
        "operators/linear",
        "cum_sum",
        '{**node.attrs, "reverse": 1 - node.attrs.get("reverse", 0)}',
        '{"reverse": 1 - node.attrs.get("reverse", 0)}',
        "operators/linear::test_inner_product",
    ),
    Fault(
        "a factor beside a zero is told apart by its own",
        "operators/reductions",
        "product",
        "e.equal(own, 0.0)",
        "e.equal(zeros, 0.0)",
        "operators/reductions::test_a_product_with_zeros",
    ),
    Fault(
        "large numbers raised as they are",
        "operators/reductions",
        "softly_between",
        'e("Sub", x, spread_out(e, node, node.outputs[0]))',
        "x",
        "operators/reductions::test_a_smooth_maximum_of_large_numbers",
    ),
    Fault(
        "a maximum that has fallen counts as risen",
        "operators/moves",
        "between_winners",
        "(risen, fallen) if largest else (fallen, risen)",
        "(fallen, risen) if largest else (risen, fallen)",
        "operators/secants::test_the_winners_at_both_points",
    ),
    Fault(
        "what speaks for a neuron counts before what speaks against it, and not after as well",
        "operators/revealed",
        "multipliers",
        "_steep(e, node, other, part, least)",
        "_steep(e, half, start, part, least)",
        "operators/revealed::test_the_minimum_is_of_both",
    ),
    Fault(
        "a deviation at one point only",
        "operators/norms",
        "_steep",
        'e("Mul", inverse, at(inverse))',
        'e("Mul", inverse, inverse)',
        "operators/secants::test_every_other_operator",
    ),
    Fault(
        "what was repeated is not summed",
        "operators/contracted",
        "einsum",
        'e.unbroadcast(e("Unsqueeze", moved, alone) if alone else moved, sure, x)',
        'e("Unsqueeze", moved, alone) if alone else moved',
        "operators/linear::test_inner_product",
    ),
    Fault(
        "any shift is taken for the one that is subtracted",
        "operators/logsums",
        "shifted",
        "_source(lost, producer) is _source(shift, producer)",
        "True",
        "operators/logsums::test_what_is_none_is_not_taken_for_one",
    ),
    Fault(
        "the imaginary part turns the other way",
        "operators/transforms",
        "fourier",
        "np.stack([-w[..., 1], w[..., 0]], -1)",
        "np.stack([w[..., 1], w[..., 0]], -1)",
        "operators/linear::test_inner_product",
    ),
    Fault(
        "an index counts from anywhere",
        "operators/positions",
        "_counts",
        "(int(start), int(step)) == (0, 1)",
        "int(step) == 1",
        "operators/positions::test_a_range_that_starts_elsewhere_is_not_that_of_the_samples",
    ),
    Fault(
        "winner overwrites where windows overlap",
        "operators/moves",
        "scattered",
        'e("ScatterElements", empty, index, values, axis=0, reduction="add")',
        'e("ScatterElements", empty, index, values, axis=0)',
        "operators/moves",
    ),
    Fault("Concat hands back the wrong piece", "operators/moves", "concatenated", "start = end", "pass", "operators/moves"),
    Fault("permutation instead of its inverse", "operators/moves", "transposed", "np.argsort(perm)", "perm", "operators/moves"),
    Fault(
        "both consumers' relevance, but only the last kept",
        "compiler/walk",
        "walk",
        "e.sum(arrived.pop(result.name))",
        "arrived.pop(result.name)[-1]",
        "compiler/nets",
    ),
    Fault(
        "LeakyRelu taken for never negative",
        "operators/pointwise",
        "leaky_relu",
        "if_inputs_are",
        "always",
        "operators/table",
    ),
    Fault(
        "bounds not swapped by a negative factor",
        "compiler/bounds",
        "Bounds._forward",
        'e("Min", low, high), e("Max", low, high)',
        "low, high",
        "compiler/bounds",
    ),
    Fault(
        "bounds of one input taken for those of all",
        "compiler/facts",
        "Facts.stay_raw",
        "all(t.name in self.bounded for t in sources)",
        "True",
        "compiler/bounds::test_a_layer_on_two_inputs_has_bounds_if_both_have",
    ),
    Fault(
        "channels on the last axis of a picture",
        "operators/places",
        "channel_axis",
        "axes[place]",
        "axes[-1]",
        "operators/places",
    ),
    Fault(
        "margin of a photograph left out",
        "data/preprocessing",
        "_resized",
        "side * MARGIN[0] // MARGIN[1]",
        "side * 1",
        "data/preprocessing data/labelled",
    ),
    Fault(
        "both factors of a gate get everything",
        "operators/products",
        "product",
        "e.mul(slot.w, part)",
        "slot.w",
        "operators/products",
    ),
    Fault(
        "the gate gets the relevance",
        "operators/products",
        "_constants",
        "ranks.index(max(ranks))",
        "ranks.index(min(ranks))",
        "operators/products",
    ),
    Fault("half to a scale", "operators/products", "constant_rank", "STATISTIC", "0", "operators/written"),
    Fault(
        "an activation is a product",
        "operators/products",
        "scales",
        "rank == STATISTIC or one",
        "rank == STATISTIC",
        "operators/attention::test_a_transformer_block",
    ),
    Fault(
        "the mean of a norm is constant",
        "operators/norms",
        "_centred",
        "[own, others]",
        "[own]",
        "operators/products::test_a_norm_is_a_layer",
    ),
    Fault(
        "any mean of squares is a variance",
        "operators/written",
        "_standardised",
        "not _is_square(square, c)",
        "False",
        "operators/written::test_what_is_no_layer_norm",
    ),
    Fault(
        "a value at 0 has relevance",
        "operators/pointwise",
        "chord",
        'e("Sub", y, start) if shifted else y',
        "y",
        "operators/attention::test_an_activation_passes_relevance_but_for_its_value_at_zero",
    ),
    Fault(
        "what tells signs apart is a statistic",
        "operators/products",
        "is_statistic",
        "not even",
        "True",
        "operators/products::test_what_is_a_statistic",
    ),
    Fault(
        "both probabilities those of class 1",
        "operators/written",
        "_scored",
        'e("Sub", one, given, shape=z.shape)',
        "given",
        "graph/spelled_ml::test_probabilities_that_something_is_computed_of",
    ),
    Fault(
        "gradients through what was filled in",
        "operators/written",
        "_filled",
        "giver is not None and own and (not _is_straight(giver, own))",
        "False",
        "graph/spelled_ml::test_imputer_of_what_is_computed",
    ),
    Fault(
        "places taken for ids",
        "compiler/ends",
        "lookups",
        "i != chosen",
        "True",
        "compiler/advice::test_scores_by_label_that_hang_on_a_choice",
    ),
    Fault(
        "what a tokenizer adds is replaced as well",
        "study/perturb",
        "perturbed",
        "np.where(places < 0, order.size, turn[places])",
        "turn[places]",
        "study/evaluate::test_tokens_of_a_text_are_replaced",
    ),
    Fault(
        "padding makes heatmaps alike",
        "study/audit/auditor",
        "real",
        "not token.padding",
        "True",
        "study/audit/auditor::test_padding_is_no_part_of_a_heatmap",
    ),
    Fault(
        "tables of embeddings stay as they were learned",
        "study/audit/randomise",
        "layers",
        "[*reversed(found.items()), *tables.items()]",
        "[*reversed(found.items())]",
        "study/audit/auditor::test_tables_of_embeddings_are_drawn_anew",
    ),
    Fault(
        "terms are called by their place in the pool",
        "operators/columns",
        "terms",
        "found[place] = gram",
        "found[grams.index(gram)] = gram",
        "operators/columns::test_terms_by_their_place",
    ),
    Fault(
        "empty cells are zeros",
        "data/sheets",
        "Sheet._number",
        "return np.nan",
        "return 0.0",
        "data/sheets::test_missing_values_and_truth_values",
    ),
    Fault(
        "softmax over another axis",
        "operators/written",
        "_axis",
        'reduced.outputs[0].name == result.name and reduced.attrs.get("keepdims", 1)',
        "True",
        "operators/written::test_what_is_no_softmax_is_not_taken_for_one",
    ),
    Fault(
        "probabilities taken for leads",
        "operators/norms",
        "held_softmax",
        "False",
        "True",
        "operators/written::test_each_member_of_an_ensemble_answers_for_its_part",
    ),
    Fault(
        "slope of a power of its own",
        "operators/pointwise",
        "slope_of_power",
        "number - 1",
        "number",
        "operators/pointwise::test_slope",
    ),
    Fault(
        "runner-up not subtracted",
        "compiler/score",
        "_of_class",
        'e("Sub", own, e("Where", runner_up, of, 0.0))',
        "own",
        "compiler/neuron::test_a_contrast_is_a_layer",
    ),
    Fault(
        "Relu's result though zeros get relevance",
        "compiler/rectified",
        "rectified",
        "y is not None and y.name not in loose",
        "y is not None",
        "compiler/rectified",
    ),
    Fault(
        "a longer Concat for a part of it",
        "compiler/chained",
        "chained",
        "node.inputs[size:]",
        "node.inputs",
        "compiler/chained",
    ),
    Fault(
        "pieces that overlap are joined",
        "compiler/pieced",
        "pieced",
        "len(own) > 1 and _covers(pieces, steps[own[0]])",
        "len(own) > 1",
        "compiler/pieced",
    ),
    Fault(
        "what a Gather took lies at the other end",
        "operators/moves",
        "gathered",
        "found.start, size - found.end",
        "size - found.end, found.start",
        "compiler/pieced",
    ),
    Fault(
        "f(x)/x of a Gelu is 1/4 at 0",
        "operators/pointwise",
        "raised",
        'e("HardSigmoid", t, alpha=0.5, beta=0.5)',
        'e("HardSigmoid", t, alpha=0.5, beta=0.25)',
        "operators/attention",
    ),
    Fault(
        "of several pieces of a layer's outputs the first alone is multiplied",
        "compiler/trimmed",
        "_columns",
        "max(cut.end for cut in cuts)",
        "min(cut.end for cut in cuts)",
        "compiler/trimmed",
    ),
    Fault(
        "every piece of a layer's outputs lies in one row",
        "compiler/trimmed",
        "_columns",
        "sizes[cuts[0].axis] != size // step",
        "False",
        "compiler/trimmed",
    ),
    Fault(
        "the branch of a skip gets all",
        "compiler/residual",
        "shared_out",
        'e("Sub", first(relevance), mine)',
        "first(relevance)",
        "compiler/residual",
    ),
    Fault(
        "what has no denominator goes to none",
        "method/propagate",
        "propagate",
        "rule.chain[1:]",
        "[]",
        "compiler/ledger::test_a_rule_behind_takes_what_is_dead",
    ),
    Fault(
        "a rule left out though a bias is positive",
        "compiler/alive",
        "_always_divides",
        "(bias > 0).any()",
        "False",
        "compiler/alive",
    ),
    Fault(
        "below a rule that hands relevance to zeros nothing is dead",
        "compiler/alive",
        "_from_above",
        "step.rule.keeps_zeros",
        "True",
        "compiler/alive",
    ),
    Fault(
        "where neither is positive the branch takes all",
        "compiler/residual",
        "halved",
        'e("Add", part, none)',
        "part",
        "compiler/residual::test_with_a_rule_behind_it",
    ),
    Fault(
        "half of a skip's share",
        "compiler/residual",
        "shared_out",
        'e("Div", part, largest)',
        'e.mul(e("Div", part, largest), 0.5)',
        "study/verify::test_bundled_models_on_their_samples",
    ),
    Fault(
        "weights that are never negative taken for zeros",
        "method/propagate",
        "_examples",
        "(0.0, 1.0) if nonnegative(w) else (-1.0, 0.0, 1.0)",
        "(0.0,) if nonnegative(w) else (-1.0, 0.0, 1.0)",
        "method/propagate::test_weights_known_to_be_positive_cost_half_the_products",
    ),
    Fault(
        "a bias in a denominator by sizes",
        "compiler/sized",
        "_product",
        "node.outputs[0]",
        "layer.y",
        "compiler/sized::test_the_relevance_is_that_of_all_terms",
    ),
    Fault(
        "a denominator by sizes where rules follow",
        "compiler/sized",
        "_by_sizes",
        "not rule.is_z_plus",
        "not rule.alone.is_z_plus",
        "compiler/sized::test_where_it_declines",
    ),
    Fault(
        "the mean of a derivative left in",
        "operators/norms",
        "_centred",
        'e("Sub", g, e("Div", total(g), n))',
        "g",
        "compiler/centred",
    ),
    Fault(
        "positions that somebody else reads are passed by",
        "compiler/picked",
        "_inside",
        "len({*asked}) == 1",
        "asked",
        "compiler/picked",
    ),
    Fault(
        "a matrix with what is added behind it is no step at one position",
        "compiler/picked",
        "_followed",
        "[t for node in step.nodes for t in _values(node)]",
        "[t for node in step.nodes[:1] for t in _values(node)]",
        "compiler/picked",
    ),
    Fault(
        "a factor is a gate at one position that is none at all of them",
        "compiler/picked",
        "_alike",
        "(step.name, step.op, step.kind, step.rule, len(step.inputs))",
        "(step.name, step.op, step.kind, step.rule)",
        "compiler/picked",
    ),
    Fault(
        "what is never negative is not known to be so at one position",
        "compiler/addition",
        "_addition",
        "whole.get(tensor.name, tensor)",
        "tensor",
        "compiler/picked::test_no_more_is_multiplied_than_without",
    ),
    Fault(
        "what was picked is picked from at once",
        "compiler/picked",
        "_inside",
        "{*asked} - {None}",
        "False",
        "compiler/picked::test_only_the_position_that_alone_is_read",
    ),
    Fault(
        "what is read whole and at one position is read at one",
        "compiler/picked",
        "_is_clear",
        "own.get(t.name) != places[t.name]",
        "own.get(t.name, places[t.name]) != places[t.name]",
        "compiler/picked",
    ),
    Fault(
        "a softmax takes off all that attention gives where it has a half",
        "compiler/summed",
        "_pulled",
        'e.mul(e("Slice", total, [0], [1], [-1]), part)',
        'e("Slice", total, [0], [1], [-1])',
        "compiler/summed",
    ),
    Fault(
        "pieces are joined early though more than they was turned",
        "compiler/unturned",
        "_axis",
        "return axis if [*order[:front], *order[front + 1 :]] == rest else None",
        "return axis",
        "compiler/unturned",
    ),
    Fault(
        "a number in front of a matrix lost on the way back",
        "compiler/commuted",
        "_together",
        "slot.adjoint(as_tensor(times(s)), w)",
        "slot.adjoint(s, w)",
        "compiler/commuted",
    ),
    Fault(
        "a tensor whose relevance is wanted is passed by",
        "compiler/shortcuts",
        "read_once",
        "{*situation.sources, *situation.kept}",
        "{*situation.sources}",
        "compiler/commuted",
    ),
    Fault(
        "verify believes a shortcut",
        "study/trial",
        "by_definition",
        "build(job, shortcuts=(alive,))",
        "build(job)",
        "study/verify::test_zeros_that_get_relevance_behind_a_relu",
    ),
    Fault(
        "samples along the first axis",
        "compiler/samples",
        "Samples._of_input",
        "found[0] if found else None",
        "0",
        "compiler/samples::test_the_axis_of_the_samples",
    ),
    Fault(
        "ledger forgets ε",
        "method/division",
        "divide",
        '"stabiliser", e.mul(small, s)',
        '"dead", e.mul(small, s)',
        "compiler/ledger",
    ),
    Fault(
        "labels that are numbers taken for indices",
        "labels",
        "Labels._matches",
        "label if isinstance(label, int) else None",
        "None",
        "labels compiler/classlabels",
    ),
    Fault(
        "verify trusts the metadata",
        "study/verify",
        "_entries",
        "mine.get(key) != theirs.get(key)",
        "False",
        "study/verify::test_tampering_is_found_with_the_source",
    ),
    Fault(
        "injected relevance not where it is 0",
        "compiler/rectified",
        "rectified",
        "loose = set(situation.sources)",
        "loose = set()",
        "compiler/rectified study/audit/converge",
    ),
    Fault(
        "layers above an injection count",
        "compiler/walk",
        "taken",
        "steps = steps[:last]",
        "pass",
        "study/audit/converge::test_relevance_of_neurons_that_are_off_is_pushed_down_too",
    ),
    Fault(
        "minus z explained by the rule of z",
        "compiler/addition",
        "_start",
        "scored.one_hot or not plan.method.divides",
        "True",
        "compiler/neuron",
    ),
    Fault(
        "terms of a sum without their sign",
        "compiler/neuron",
        "_Writer.summand",
        'sign * slot.w if isinstance(slot.w, float) else e("Reshape", in_width(e, slot.w), [1, 1])',
        "1.0",
        "compiler/neuron::test_one_logit_behind_anything_linear_is_explained_as_two",
    ),
    Fault(
        "coefficients of one way only",
        "compiler/neuron",
        "_Writer.united",
        "self.e.sum([c for c, _ in parts])",
        "parts[0][0]",
        "compiler/neuron::test_what_is_reached_in_several_ways_is_explained_by_all_of_them",
    ),
    Fault(
        "costs of a whole batch",
        "compiler/samples",
        "Samples.sizes",
        "factor is not own",
        "factor",
        "compiler/inspect::test_multiply_adds_are_those_of_one_sample_counted_by_hand",
    ),
    Fault(
        "a filter for all samples",
        "operators/narrowed",
        "filtered",
        "filters(c, in_width(e, slot.w))",
        'filters(e("Abs", c), in_width(e, slot.w))',
        "compiler/neuron",
    ),
    Fault(
        "root looked for beside the line",
        "study/audit/roots",
        "line",
        "each.direction(*arrays)",
        "each.direction(*arrays) + 1",
        "study/audit/roots",
    ),
    Fault("root on the other side", "study/audit/roots", "Roots.find", "x - way", "x + way", "study/audit/roots"),
    Fault(
        "region looked at where x is",
        "study/audit/roots",
        "Roots.find",
        "(1 - BEFORE) * way",
        "BEFORE * way",
        "study/audit/roots",
    ),
    Fault(
        "region by the gradient alone",
        "study/audit/roots",
        "Seen.same_region",
        "zip(self.choices, other.choices, strict=True)",
        "()",
        "study/audit/roots",
    ),
    Fault("region by the choices alone", "study/audit/roots", "Seen.same_region", "near", "near | True", "study/audit/roots"),
    Fault(
        "winners of pools left out",
        "study/audit/roots",
        "Tail.__init__",
        "named(node.op_type).chooses",
        'None if node.op_type == "MaxPool" else named(node.op_type).chooses',
        "study/audit/roots::test_another_winner_is_another_region",
    ),
    Fault(
        "domain without its lower end",
        "study/audit/roots",
        "Roots._in_domain",
        "(root >= low - DOMAIN * (high - low)) & (root <= high + DOMAIN * (high - low))",
        "(root <= high + DOMAIN * (high - low))",
        "study/audit/roots::test_bounds_are_the_domain_of_the_first_layer",
    ),
    Fault(
        "negative roots in the domain",
        "study/audit/roots",
        "Roots._in_domain",
        "self._nonnegative",
        "False",
        "study/audit/roots",
    ),
    Fault(
        "no root, no failure",
        "study/audit/roots",
        "Roots.find",
        "found & (np.abs(output) <= tolerance * (np.abs(w * x) + np.abs(w * root)).sum(axis=1))",
        "~found | (np.abs(output) <= tolerance * (np.abs(w * x) + np.abs(w * root)).sum(axis=1))",
        "study/audit/roots",
    ),
    Fault("inputs move that a neuron does not read", "method/rule", "Rule.direction", "w != 0", "w == w", "study/audit/roots"),
    Fault(
        "logits nobody explains",
        "study/audit/roots",
        "Roots.find",
        "(y > 0) & (rows(cotangent, n) != 0) if self._top else y > 0",
        "(y > 0) if self._top else y > 0",
        "study/audit/roots",
    ),
    Fault(
        "a part that keeps what is given",
        "graph/slices",
        "sliced",
        "any(name in wanted and name not in cuts for name in node.output)",
        "any(name in wanted for name in node.output)",
        "graph/slices study/audit/roots",
    ),
    Fault("samples that fill a batch count", "study/audit/parts", "batches", "count", "len(filled)", "study/audit/roots"),
    Fault(
        "relevance compared along width",
        "study/audit/converge",
        "channel_axis",
        '1 if step.layer.family == "conv" else -1',
        "-1",
        "study/audit/converge",
    ),
    Fault(
        "dead positions count",
        "study/audit/converge",
        "pairwise",
        "np.isfinite(both) & (both > 0)",
        "np.isfinite(both)",
        "study/audit/converge::test_pairs_by_position_without_dead_ones",
    ),
    Fault(
        "a gradient cancels whatever the norm tells",
        "compiler/cancelled",
        "_forgets",
        "lost in entry.forgets",
        "True",
        "compiler/cancelled::test_it_is_said_exactly_where_it_is_so",
    ),
    Fault(
        "a proof of another processor is taken",
        "runtime/kept",
        "check",
        "NEAR * np.abs(want).max()",
        "1e9 * np.abs(want).max()",
        "study/keep::test_another_kind_of_processor_is_refused",
    ),
    Fault(
        "weights that have changed are those of the compile",
        "study/verify",
        "_recorded",
        "digest not in recorded.values()",
        "digest is None",
        "study/verify::test_weights_that_source_and_file_share_are_those_of_the_compile",
    ),
    Fault(
        "random vectors of another size",
        "study/audit/converge",
        "median_of_random",
        "(size - 1) / 2",
        "size / 2",
        "study/audit/converge::test_an_orthogonal_layer_keeps_random_random",
    ),
    Fault(
        "layers beside the start count",
        "study/audit/converge",
        "inputs_below",
        "any(t.name in wanted for t in step.outputs)",
        "True",
        "study/audit/converge::test_a_layer_of_rank_1_leaves_one_direction",
    ),
    Fault(
        "relevance passes where shapes differ",
        "compiler/steps",
        "Stepper.obstacle",
        "x.shape != y.shape or not all(isinstance(size, str | int) for size in y.shape)",
        "not all(isinstance(size, str | int) for size in y.shape)",
        "compiler/advice",
    ),
    Fault(
        "relevance above that inhibits nothing",
        "compiler/minmax",
        "ModelStep._activity",
        'e("Min", e.sum(parts), 0.0)',
        "e.sum(parts)",
        "compiler/minmax::test_a_dense_layer",
    ),
    Fault(
        "a gradient of units that are off",
        "study/training",
        "gradient",
        "(y > 0)",
        "1.0",
        "study/training::test_the_gradient_is_that_of_the_loss",
    ),
    Fault(
        "relevance models of another network",
        "compiler/fitted",
        "chosen",
        'said["model"] != digest()',
        "False",
        "study/fit::test_what_does_not_fit_is_refused_with_the_command",
    ),
    Fault(
        "advice taken on trust",
        "compiler/advice",
        "advised",
        "not any(problem.way_out for problem in problems) and tried(replace(request, allow=passes)) is not None",
        "not any(problem.way_out for problem in problems)",
        "compiler/advice::test_advice_keeps_to_the_request",
    ),
    Fault(
        "samples behind an operator that nobody knows",
        "compiler/samples",
        "_meant",
        "part.size is factor.size is None",
        "part.size == factor.size",
        "operators/table",
    ),
    Fault("operators of any domain are known", "operators/table", "of", "node.domain in DOMAINS", "True", "operators/table"),
    Fault("weights of any size fit", "operators/fits", "check", "zip(is_so, must, strict=True)", "()", "operators/fits"),
    Fault(
        "a gradient takes rules that divide",
        "method/toml",
        "_check_division",
        "selector.rule.divide and not method.divides",
        "False",
        "method/toml",
    ),
    Fault(
        "the class axis guessed among several layers'",
        "compiler/raster",
        "raster",
        "layers[0] if len(layers) == 1 else None",
        "layers[-1] if layers else None",
        "compiler/raster::test_what_lies_along_the_axes",
    ),
    Fault(
        "neurons told from nothing",
        "operators/axes",
        "Axes.neurons",
        "Factor(entry, layer=node)",
        "Factor(entry)",
        "compiler/raster::test_what_lies_along_the_axes",
    ),
    Fault(
        "a position of the last of several axes only",
        "compiler/score",
        "_at",
        "count.values is None or count.values != 1",
        "axis == max(counts)",
        "compiler/raster::test_a_region_is_the_sum_of_its_pixels",
    ),
    Fault(
        "coefficients not brought into the order of the logits",
        "compiler/score",
        "_given",
        'given if order == sorted(order) else e("Transpose", given, perm=order)',
        "given",
        "compiler/raster::test_coefficients_of_one_entry_are_that_entry",
    ),
    Fault(
        "samples on the first axis whatever mixes it",
        "compiler/samples",
        "_along",
        "factor.mixed is None and _is_input(axes, factor)",
        "i == 0",
        "compiler/raster::test_an_entry_is_explained_as_if_it_were_the_only_one",
    ),
    Fault(
        "an entry of a sigmoid's map explained by its sign",
        "compiler/raster",
        "Raster._taken_apart",
        "1 if binary else max((given[i] for i in classes), default=None)",
        "max((given[i] for i in classes), default=None)",
        "compiler/raster::test_a_cell_speaks_for_itself_and_a_position_for_or_against",
    ),
    Fault(
        "numbers broken in two at a terminal",
        "cli/screen",
        "_least",
        "[cell] if NUMBER.fullmatch(cell) else cell.split() or ['']",
        "cell.split() or ['']",
        "cli/screen::test_a_name_is_shortened_in_the_middle_and_a_number_never",
    ),
    Fault(
        "two classes of one name shown alike",
        "labels",
        "Labels.brief",
        "name in known and [first_synonym(other) for other in known].count(short) == 1",
        "name in known",
        "labels::test_of_two_classes_of_one_name_the_whole_label_is_shown",
    ),
    Fault(
        "layers of another rule shown as one",
        "compiler/groups",
        "_by",
        "(named(row), row['op'], row['kind'], row['rule'], row['first'], signs)",
        "(named(row), row['op'], row['kind'], row['first'], signs)",
        "compiler/groups::test_what_differs_in_rule_sign_or_place_is_not_one_row",
    ),
    Fault(
        "explained where nobody asks",
        "compiler/ondemand",
        "_on_demand",
        "helper.make_tensor(ask, TensorProto.BOOL, [], [False])",
        "helper.make_tensor(ask, TensorProto.BOOL, [], [True])",
        "compiler/ondemand::test_an_optional_input_is_false_where_it_is_left_out",
    ),
    Fault(
        "what is not asked for has as many samples",
        "compiler/ondemand",
        "_open",
        "copy.type.tensor_type.shape.dim[0].dim_param = MAYBE_NONE",
        "copy.type.tensor_type.shape.dim[0].dim_value = 1",
        "compiler/ondemand::test_what_is_not_asked_for_is_empty",
    ),
    Fault(
        "external weights weigh nothing",
        "runtime/explainer",
        "_size",
        "size + sum(_bytes(os.path.join(os.fsencode(beside), name)) for name in names)",
        "size",
        "runtime/explainer::test_external_weights_count_for_how_large_a_model_is",
    ),
    Fault(
        "weights copied though they are to be mapped",
        "runtime/explainer",
        "session",
        "not (_size(serialised, folder) <= LARGE if prepack is None else prepack)",
        "_size(serialised, folder) > LARGE",
        "runtime/explainer::test_whether_weights_are_kept_in_a_second_form_can_be_said",
    ),
    Fault(
        "all that an explanation has time for is computed afresh",
        "compiler/afresh",
        "_chosen",
        "min(enough, most - 1)",
        "most - 1",
        "compiler/afresh::test_nothing_is_computed_afresh_for_predictions_that_take_so_long_that_reading_is_not_noticed",
    ),
    Fault(
        "what leaves the blocked layout anyway is computed afresh",
        "compiler/afresh",
        "_chosen",
        "{name for name, result in results.items() if result.inside} - leaving",
        "{name for name, result in results.items() if result.inside}",
        "compiler/afresh::test_what_leaves_the_blocks_anyway_is_read",
    ),
    Fault(
        "what a runtime would compute at once with others is read",
        "compiler/afresh",
        "_chosen",
        "is_elementwise(of(node))",
        "not is_elementwise(of(node))",
        "compiler/afresh::test_of_attention_large_products_are_read_and_what_is_made_of_them_is_computed_afresh",
    ),
    Fault(
        "what meets axes of an input is taken to be as long",
        "operators/axes",
        "Axes.guess",
        "factor.guessed or factor.size in (None, 1)",
        "factor.guessed",
        "compiler/samples::test_sizes_of_what_may_be_repeated_are_not_those_of_what_it_meets",
    ),
    Fault(
        "sizes that several axes of a tensor were merged into lose a factor",
        "operators/axes",
        "Axes._measured",
        "return int(number), tensor, i",
        "return 1, tensor, i",
        "compiler/samples::test_sizes_of_rows_merged_with_others",
    ),
    Fault(
        "what is quantised is read without its scale",
        "graph/spelled",
        "_quantised",
        "[source, node.inputs[scale], node.inputs[zero]]",
        "[source]",
        "graph/spelled::test_the_logits_in_front_of_a_quantised_softmax_are_explained",
    ),
    Fault(
        "files of a list are called what their copies are",
        "data/brought",
        "Brought.spoken",
        "self.files[name]",
        "name",
        "data/brought::test_what_is_wrong_with_a_file_of_a_list_is_said_with_the_name_that_it_has_there",
    ),
    Fault(
        "what is wanted may be missing",
        "compiler/cut",
        "least",
        "never if thing in wanted else max(-cost, 0)",
        "max(-cost, 0)",
        "compiler/cut::test_no_closed_set_costs_less",
    ),
]


def named_tests(fault: Fault) -> Iterator[tuple[Path, str | None]]:
    """The files with its tests, each with the one test in it that runs, or None for all."""
    for name in fault.tests.split():
        module, _, test = name.partition("::")
        yield Path("tests", module).with_name(f"test_{Path(module).name}.py"), test or None


def mutated(fault: Fault, text: str) -> str:
    """The text of its file with the fault in it. ValueError unless what it replaces is there exactly once."""
    spans = (_in_toml if fault.file.endswith(".toml") else _in_python)(fault, text)
    if len(spans) != 1:
        raise ValueError(f"{fault.what}: {fault.old!r} is {len(spans)} times in {fault.within} of {fault.file}")
    start, end = spans[0]
    data = text.encode()
    new = fault.new
    if isinstance(_parsed(fault.old), ast.expr) and not fault.file.endswith(".toml"):
        new = f"({new})"
    margin = " " * (start - (data.rfind(b"\n", 0, start) + 1))  # of a statement, which stands alone in its lines
    new = textwrap.indent(new, margin).removeprefix(margin)
    return (data[:start] + new.encode() + data[end:]).decode()


def _in_python(fault: Fault, text: str) -> list[tuple[int, int]]:
    """First and last byte of each node that equals the old one."""
    lines = text.encode().splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]
    old = ast.dump(_parsed(fault.old))
    scopes = list(_defined(fault.within.split("."), ast.parse(text)))
    nodes = [n for scope in scopes for n in ast.walk(scope) if isinstance(n, ast.expr | ast.stmt) and ast.dump(n) == old]
    return [(starts[n.lineno - 1] + n.col_offset, starts[n.end_lineno - 1] + n.end_col_offset) for n in nodes]  # type: ignore[operator]


def _defined(path: list[str], scope: ast.AST) -> Iterator[ast.AST]:
    """Whatever defines the last of the names, each looked for in what defines the one before."""
    for node in getattr(scope, "body", []):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            names = [ast.unparse(target) for target in getattr(node, "targets", [getattr(node, "target", None)])]
        else:
            continue
        if path[0] in names:
            yield from _defined(path[1:], node) if path[1:] else [node]


def _parsed(source: str) -> ast.expr | ast.stmt:
    """The expression or statement that some source is."""
    (statement,) = ast.parse(source).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _in_toml(fault: Fault, text: str) -> list[tuple[int, int]]:
    """First and last byte of each place in the table where the old text is."""
    table = re.search(rf"^\[{re.escape(fault.within)}\]\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    before = [] if table is None else [text[: table.start(1) + m.start()] for m in re.finditer(re.escape(fault.old), table[1])]
    return [(len(b.encode()), len((b + fault.old).encode())) for b in before]


@contextmanager
def planted(fault: Fault, folder: Path) -> Iterator[None]:
    """The fault is in the copy of the project for as long as this lasts."""
    path = folder / fault.file
    text = path.read_text(encoding="utf-8")
    try:
        _write(path, mutated(fault, text))
        yield
    finally:
        _write(path, text)


def _write(path: Path, text: str) -> None:
    """Write a module and forget what was compiled of it, which Python tells by size and second alone."""
    path.write_text(text, encoding="utf-8")
    Path(cache_from_source(str(path))).unlink(missing_ok=True)


def outcome(fault: Fault, folder: Path) -> Outcome:
    """Plant a fault in a copy of the project and run its tests until the first fails."""
    start = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    tests = [str(file) if test is None else f"{file}::{test}" for file, test in named_tests(fault)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    with planted(fault, folder):
        try:
            ran = subprocess.run(
                [*command, *tests], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
            )
        except subprocess.TimeoutExpired:  # which nobody who runs the tests would miss
            return Outcome(fault, "a test that does not end", time.monotonic() - start)
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", ran.stdout, re.MULTILINE)
    if ran.returncode not in (0, 1) or (ran.returncode == 1 and not failed):
        raise SystemExit(f"{fault.what}: the tests did not run\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return Outcome(fault, failed.group(1) if failed else None, time.monotonic() - start)


def outcomes(faults: list[Fault], processes: int) -> Iterator[Outcome]:
    """The outcome of each, in order; every process has a copy of the project of its own."""
    skip = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", ".hypothesis")
    free: queue.Queue[Path] = queue.Queue()

    def run(fault: Fault) -> Outcome:
        folder = free.get()
        try:
            return outcome(fault, folder)
        finally:
            free.put(folder)

    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(processes) as pool:
        for i in range(processes):
            free.put(Path(shutil.copytree(ROOT, Path(temporary, str(i)), ignore=skip)))
        yield from pool.map(run, faults)


def main() -> None:
    """Plant all faults, show who caught them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults with this text in their description or module")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the outcomes to this file")
    given = parser.parse_args()
    chosen = [fault for fault in FAULTS if given.only in fault.what + fault.module]
    ran = list(track(outcomes(chosen, given.processes), "planting faults", total=len(chosen), transient=True))
    table = Table("fault", "in", "caught by", "seconds")
    for o in ran:
        table.add_row(o.fault.what, o.fault.module, o.caught_by or "NOBODY", f"{o.seconds:.1f}")
    console = Console()
    console.width = max(console.width, 130)  # a table in a file need not fit a screen
    console.print(table)
    survived = sum(o.caught_by is None for o in ran)
    print(f"{len(ran) - survived} of {len(ran)} faults caught")
    if given.json:
        given.json.write_text(json.dumps([asdict(o) for o in ran], indent=1, ensure_ascii=False), encoding="utf-8")
    sys.exit(bool(survived))


if __name__ == "__main__":
    main()
