"""Classifiers of scikit-learn as skl2onnx exports them, against their own decision function.

The explained logit is the decision function of the class (of two classes: its sign chooses), whatever head the exporter wrote
behind it; the gradient is that of the decision function by central differences; LRP-ε of a linear model is w x.
"""

from functools import cache
from itertools import combinations

import numpy as np
import onnx
import pytest
from nets import Session, assert_near
from pairs import pairs

import onnxdtd
from onnxdtd.contract import read_metadata

sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install 'onnxdtd[peers]'")
skl2onnx = pytest.importorskip("skl2onnx", reason="skl2onnx is not installed: pip install 'onnxdtd[peers]'")

from sklearn.datasets import load_breast_cancer, make_classification  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression, SGDClassifier  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import Normalizer, StandardScaler  # noqa: E402
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, OneClassSVM  # noqa: E402

Array = np.ndarray


def mlp():
    return MLPClassifier((8,), max_iter=300, tol=1e-3, random_state=0)


MODELS = {
    "LogisticRegression": lambda: LogisticRegression(max_iter=5000),
    "SGDClassifier": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "LinearSVC": LinearSVC,
    "MLPClassifier": mlp,
    "scaled": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "imputed": lambda: make_pipeline(SimpleImputer(), StandardScaler(), mlp()),
    "of length 1": lambda: make_pipeline(Normalizer("l2"), LogisticRegression()),
    "of sum 1": lambda: make_pipeline(Normalizer("l1"), LogisticRegression()),
    "of largest entry 1": lambda: make_pipeline(Normalizer("max"), LogisticRegression()),
}
LINEAR = ("LogisticRegression", "SGDClassifier", "LinearSVC")
NOT_EXPORTED = {
    "LinearSVC",
    "of largest entry 1",
    "imputed",
}  # in float64, or ONNX Runtime has no kernel for it; nor of a ZipMap


@cache
def fitted(name: str, classes: int, dtype: type) -> tuple[object, Array]:
    """A trained classifier and inputs for it, positive ones: ONNX takes the largest entry, scikit-learn the largest size."""
    x, y = make_classification(200, 6, n_informative=5, n_redundant=0, n_classes=classes, random_state=0)
    x = (x - x.min() + 0.5).astype(dtype)
    return MODELS[name]().fit(x.astype(np.float64), y), x[:12]


def scores(model: object, x: Array) -> Array:
    """The decision function, [n, classes], in float64."""
    x = x.astype(np.float64)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    if isinstance(last, MLPClassifier):  # has none
        x = model[:-1].transform(x) if last is not model else x
        (w, v), (b, c) = last.coefs_, last.intercepts_
        z = np.maximum(x @ w + b, 0) @ v + c
        z = z[:, 0] if z.shape[1] == 1 else z
    else:
        z = model.decision_function(x)
    return np.stack([-z, z], 1) if z.ndim == 1 else z


def exported(model: object, x: Array, head: str) -> onnx.ModelProto:
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    choice = {"plain": False, "ZipMap": True, "columns": "columns"}[head]
    return skl2onnx.to_onnx(model, x[:1], options={id(last): {"zipmap": choice}} if hasattr(last, "predict_proba") else None)


FORMS = [(np.float32, "plain"), (np.float32, "ZipMap"), (np.float32, "columns"), (np.float64, "plain"), (np.float64, "columns")]
CASES = [case for case in pairs(list(MODELS), [2, 3], FORMS) if case[0] not in NOT_EXPORTED or case[2][0] == np.float32]


@pytest.mark.parametrize(("name", "classes", "form"), CASES, ids=str)
def test_against_the_decision_function(name, classes, form):
    dtype, head = form
    model, x = fitted(name, classes, dtype)
    source = exported(model, x, head)
    rows, best = np.arange(len(x)), model.predict(x)
    z = scores(model, x)
    compiled = onnxdtd.compile(source, "lrp-epsilon")
    logits = read_metadata(compiled)["logits"]
    kept = onnxdtd.compile(source, "lrp-epsilon", keep=[logits])
    found = Session(kept)(X=x)
    seed = found[f"relevance/{logits}"].reshape(len(x), -1)
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    assert_near(seed.sum(1), z[rows, best], tolerance)
    assert (np.count_nonzero(seed, axis=1) == 1).all()
    if name in LINEAR:
        w = model.coef_ if classes == 3 else np.concatenate([-model.coef_, model.coef_])
        logit = z[rows, best][:, None]
        assert_near(found["relevance"], x * w[best] * logit / (logit + 1e-6 * np.sign(logit)), tolerance)
    for target in (None, 0, 1):
        chosen = best if target is None else np.full(len(x), target)
        g = Session(onnxdtd.compile(source, "gradient", target=target))(X=x)["relevance"]
        h = 1e-4 * np.eye(6)
        differences = np.stack([(scores(model, x + d) - scores(model, x - d))[rows, chosen] / 2e-4 for d in h], 1)
        assert_near(g, differences, 2e-4 if dtype == np.float32 else 1e-6)
    r = Session(onnxdtd.compile(source, "dtd"))(X=x)["relevance"]
    assert np.isfinite(r).all()
    if name in LINEAR:
        assert_near(r, z[rows, best][:, None] * w[best] ** 2 / (w[best] ** 2).sum(1, keepdims=True), max(tolerance, 1e-6))


MACHINES = {
    "SVC": lambda x, y: SVC().fit(x, y),
    "SVC, probability": lambda x, y: SVC(kernel="poly", degree=2, probability=True, random_state=0).fit(x, y > 0),
    "NuSVC": lambda x, y: NuSVC(kernel="sigmoid", nu=0.3).fit(x, y),
    "SVR": lambda x, y: SVR().fit(x, x[:, 0] * y),
    "OneClassSVM": lambda x, y: OneClassSVM(nu=0.3).fit(x),
}


def decisions(model: object, x: Array) -> Array:
    """What speaks for each class [n, classes]; of one class for what is outside and inside; of a regression what it gives."""
    z = model.decision_function(x) if hasattr(model, "decision_function") else model.predict(x)
    if z.ndim == 1:
        return np.stack([-z, z], 1) if hasattr(model, "decision_function") else z[:, None]
    sums = np.zeros((len(x), len(model.classes_)))
    for k, (i, j) in enumerate(combinations(range(sums.shape[1]), 2)):
        sums[:, i] += z[:, k]
        sums[:, j] -= z[:, k]
    return sums


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of probabilities, which skl2onnx asks for
@pytest.mark.parametrize("name", MACHINES)
def test_support_vector_machines(name: str) -> None:
    x, y = make_classification(90, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=0)
    model = MACHINES[name](x, y).set_params(**({"decision_function_shape": "ovo"} if "SVC" in name else {}))
    x = x[:20].astype(np.float32).astype(np.float64)
    source = skl2onnx.to_onnx(
        model, x[:1].astype(np.float32), options={id(model): {"zipmap": False}} if "SVC" in name else None
    )
    z = decisions(model, x)
    found = Session(onnxdtd.compile(source, "gradient"))(X=x.astype(np.float32))
    labels = found.get("label", np.zeros(len(x))).ravel()
    best = np.searchsorted(np.unique(labels), labels) if z.shape[1] > 1 else np.zeros(len(x), int)
    rows, differences = np.arange(len(x)), []
    assert_near(found["logit"], z[rows, best], 1e-5)
    for step in 1e-5 * np.eye(6):
        differences.append((decisions(model, x + step) - decisions(model, x - step))[rows, best] / 2e-5)
    assert_near(found["relevance"], np.stack(differences, 1), 1e-4)


def test_two_patients_have_two_heatmaps() -> None:
    """Breast cancer by an MLP of one logit: by default what is explained looks at the values, and no class comes out zero."""
    data = load_breast_cancer()
    x = data.data.astype(np.float32)
    model = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=100, tol=1e-2, random_state=0)).fit(x, data.target)
    source = skl2onnx.to_onnx(model, x[:1], options={"zipmap": False})
    patients = x[::30]
    explainer = onnxdtd.Explainer(onnxdtd.compile(source), ["CPUExecutionProvider"])
    assert explainer.metadata["preset"] == "lrp-epsilon"
    found = explainer(patients)
    (relevance,) = found.relevance.values()
    classes = model.predict(patients)
    assert set(classes) == {0, 1}
    assert (found.logit > 0).all()
    assert (relevance.sum(axis=1) > 0).mean() > 0.9
    unit = relevance / np.linalg.norm(relevance, axis=1, keepdims=True)
    for index in (0, 1):
        alike = unit[classes == index] @ unit[classes == index].T
        assert alike[np.triu_indices(len(alike), 1)].mean() < 0.9
    by_weights = onnxdtd.Explainer(onnxdtd.compile(source, "dtd"), ["CPUExecutionProvider"])
    assert len(by_weights.metadata["by_weights"]) == 1
    (relevance,) = by_weights(patients).relevance.values()
    assert (relevance.max(axis=1) > 0).all()
