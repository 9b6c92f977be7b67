"""Specs round-trip, fill themselves, and refuse what contradicts itself."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from nidim.capacity import resolve
from nidim.errors import SpecError
from nidim.spec import DatasetFacts, TrainSpec, laws, matching, parts, views
from nidim.spec.base import Part
from nidim.spec.stages import first_stage
from nidim.spec.targets import LEAST_POINTS, MOST_VALUES, StoredPoints


def options(alias: object) -> st.SearchStrategy[Part]:
    """Any part of a union, with any values of its fields."""
    classes = typing.get_args(typing.get_args(alias)[0])
    return st.one_of([any_part(cls) for cls in classes])


def any_part(cls: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Each field left at its default or given, numbers anywhere within their bounds."""
    if cls is laws.GaussianMixturePrior:
        return any_mixture()
    if cls is laws.FlowPrior:
        return st.sampled_from(SAMPLES)
    fields = {
        name: any_value(field.annotation, field.metadata)
        for name, field in cls.model_fields.items()
        if name != "kind"
    }
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: cls(**values))


def any_mixture() -> st.SearchStrategy[laws.GaussianMixturePrior]:
    """Components that all reach over 0, so that no gap is between them."""

    def reaching(component: laws.Component) -> laws.Component:
        bound = laws.REACH * component.scale
        return component.model_copy(update={"mean": min(max(component.mean, -bound), bound)})

    several = st.lists(any_part(laws.Component).map(reaching), min_size=1, max_size=4)
    return several.map(lambda components: laws.GaussianMixturePrior(components=tuple(components)))


def some_samples() -> list[laws.FlowPrior]:
    """Points of 2 to 4 dimensions in three scales, and what stands for them."""
    rng = np.random.default_rng(0)
    sizes = [(LEAST_POINTS, 2, 1e-3), (LEAST_POINTS + 7, 3, 1.0), (LEAST_POINTS, 4, 1e5)]
    given = [laws.FlowPrior(points=(by * rng.standard_normal((n, d))).tolist()) for n, d, by in sizes]
    return [*given, *(prior.stored() for prior in given)]


SAMPLES = some_samples()


def any_value(annotation: Any, metadata: typing.Iterable[Any] = ()) -> st.SearchStrategy[Any]:
    """A value of an annotation of pydantic's, bounds included."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        bounds = [bound for extra in args[1:] for bound in getattr(extra, "metadata", [extra])]
        return any_value(args[0], [*metadata, *bounds])
    if origin in (typing.Union, types.UnionType):
        return st.one_of([any_value(arg, metadata) for arg in args])
    return st.from_type(Annotated[annotation, *metadata] if metadata else annotation)


def field_of(name: str) -> st.SearchStrategy[Any]:
    """A value for a plain field of the spec itself, given."""
    field: FieldInfo = TrainSpec.model_fields[name]
    kinds = typing.get_args(field.annotation)
    given_kind = kinds[0] if type(None) in kinds else field.annotation
    return any_value(given_kind, field.metadata)


FACTS = st.builds(
    DatasetFacts,
    name=st.just("x"),
    n_train=st.integers(2, 10**6),
    n_test=st.integers(2, 10**5),
    height=st.integers(1, 500),
    width=st.integers(1, 500),
    channels=st.sampled_from([1, 3]),
)


PLAIN = ("image_size", "epochs", "batch_size", "precision", "evaluation", "seed", "devices")


@st.composite
def specs(draw: st.DrawFn) -> dict:
    given_parts = {
        "encoder": options(parts.Encoder),
        "objective": options(parts.Objective),
        "critic": options(parts.Critic),
        "head": options(parts.Head),
        "noise": options(matching.Noise),
        "prior": options(laws.PriorSpec),
        "method": options(parts.Method),
        "regularizer": options(matching.Regularizer),
        "augmentation": options(views.Augmentation),
        "optimizer": options(parts.Optimizer),
        "normalization": options(matching.Normalization),
        **{name: field_of(name) for name in PLAIN},
    }
    chosen = draw(st.sets(st.sampled_from(sorted(given_parts))))
    values = {name: draw(given_parts[name]) for name in sorted(chosen)}
    return {
        "dataset": "x",
        **{k: v.model_dump() if isinstance(v, Part) else v for k, v in values.items()},
    }


@given(values=specs(), facts=FACTS)
def test_a_spec_round_trips_and_filling_is_idempotent(values: dict, facts: DatasetFacts) -> None:
    try:
        spec = TrainSpec.model_validate(values)
    except ValidationError as exc:
        assert {e["type"] for e in exc.errors()} == {"contradiction"}  # noqa: PT017
        return
    assert TrainSpec.model_validate_json(spec.model_dump_json()) == spec
    try:
        full = spec.filled(facts)
    except ValidationError as exc:  # a given field contradicts a default that depends on it
        assert {e["type"] for e in exc.errors()} == {"contradiction"}  # noqa: PT017
        return
    assert full.filled(facts) == full
    assert TrainSpec.model_validate_json(full.model_dump_json()).digest == full.digest
    for name in values:
        assert getattr(full, name) == getattr(spec, name)


UNIONS = (
    *(parts.Encoder, parts.Objective, parts.Critic, parts.Head, matching.Noise, laws.PriorSpec, parts.Method),
    *(matching.Regularizer, views.Augmentation, parts.Optimizer, matching.Normalization),
)


@pytest.mark.parametrize("union", UNIONS, ids=lambda u: typing.get_args(typing.get_args(u)[0])[0].__name__)
def test_a_part_round_trips_whatever_its_numbers(union: Any) -> None:
    adapter = TypeAdapter(union)

    @given(part=options(union))
    def holds(part: Part) -> None:
        assert adapter.validate_json(part.model_dump_json()) == part
        assert adapter.validate_python(part.model_dump()) == part

    holds()


@pytest.mark.parametrize(
    ("strategy", "is_far"),
    [
        (options(views.Augmentation), lambda part: part.rotate > 1 and part.crop_min < 0.2),
        (options(matching.Noise), lambda part: getattr(part, "sigma", "auto") not in ("auto", 1.0)),
        (options(matching.Noise), lambda part: getattr(part, "certificate_sigma", None) is not None),
        (options(parts.Optimizer), lambda part: part.lr > 1 and part.schedule == "cosine"),
        (field_of("batch_size"), lambda size: size > 1000),
    ],
    ids=["augmentation", "sigma", "optional", "optimizer", "plain field"],
)
def test_drawn_values_are_far_from_their_defaults(strategy: Any, is_far: Any) -> None:
    """Of the strategies above: were they to draw defaults only, the laws would hold little to account."""
    find(
        strategy,
        is_far,
        settings=settings(derandomize=True, phases=[Phase.generate], max_examples=1000, database=None),
    )


PLANE = np.random.default_rng(0).standard_normal((120, 2)).tolist()
CONTRADICTIONS = [
    ({"prior": {"kind": "gaussian"}, "noise": {"kind": "uniform"}}, "noise"),
    ({"method": {"kind": "simclr"}, "critic": {"kind": "bilinear"}}, "critic"),
    ({"method": {"kind": "simclr"}, "objective": {"kind": "nwj"}}, "objective"),
    ({"normalization": {"kind": "sigmoid"}, "noise": {"kind": "gaussian"}}, "normalization"),
    ({"normalization": {"kind": "batchnorm"}, "noise": {"kind": "uniform"}}, "normalization"),
    ({"normalization": {"kind": "sigmoid"}, "prior": {"kind": "gaussian"}}, "normalization"),
    ({"critic": {"kind": "gaussian_channel"}, "noise": {"kind": "none"}}, "critic"),
    ({"critic": {"kind": "gaussian_channel"}, "head": {"kind": "mlp"}}, "head"),
    ({"regularizer": {"kind": "sliced_epps_pulley"}, "noise": {"kind": "uniform"}}, "regularizer"),
    ({"critic": {"kind": "gaussian_channel"}, "noise": {"kind": "gaussian", "start": 1}}, "critic"),
    ({"method": {"kind": "infomax", "first_epochs": 3}}, "method"),
    ({"method": {"kind": "infomax", "local": 1}, "encoder": {"kind": "conv"}, "image_size": 3}, "method"),
    ({"noise": {"kind": "gaussian", "learned": True}, "encoder": {"kind": "conv", "dim": 1}}, "noise"),
    ({"noise": {"kind": "gaussian", "learned": True}, "critic": {"kind": "gaussian_channel"}}, "critic"),
    ({"prior": {"kind": "sphere"}, "encoder": {"kind": "conv", "dim": 1}}, "encoder"),
    ({"prior": {"kind": "sphere"}, "noise": {"kind": "uniform"}}, "noise"),
    ({"prior": {"kind": "flow", "points": PLANE}, "encoder": {"kind": "conv", "dim": 3}}, "encoder"),
    ({"encoder": {"kind": "vit_small", "patch": 8}, "image_size": 28}, "encoder"),
    ({"encoder": {"kind": "convnext_tiny"}, "image_size": 7}, "image_size"),
    ({"encoder": {"kind": "convnext_tiny", "stem": "imagenet"}, "image_size": 31}, "image_size"),
    (
        {"encoder": {"kind": "vit_small"}, "method": {"kind": "infomax", "local": 1}, "image_size": 32},
        "method",
    ),
    ({"encoder": {"kind": "vit_small"}, "noise": {"kind": "gaussian", "layers": 0.1}}, "noise"),
]


@pytest.mark.parametrize(("values", "field"), CONTRADICTIONS)
def test_contradictions_name_their_field_and_what_to_do(values: dict, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TrainSpec.model_validate({"dataset": "mnist", **values})
    (error,) = caught.value.errors()
    assert error["type"] == "contradiction"
    assert error["ctx"]["field"] == field
    assert " a objective" not in error["msg"]
    assert "use" in error["msg"] or "leave" in error["msg"] or "needs" in error["msg"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"dataset": "../etc"},
        {"dataset": "enc_1"},
        {"dataset": "mnist\n"},
        {"dataset": "MNIST"},
        {"dataset": "x", "unknown": 1},
        {"dataset": "x", "epochs": 0},
        {"dataset": "x", "epochs": 1e9},
        {"dataset": "x", "batch_size": 1},
        {"dataset": "x", "seed": -1},
        {"dataset": "x", "devices": 2},
        {"dataset": "x", "noise": {"kind": "gaussian", "sigma": 0}},
        {"dataset": "x", "noise": {"kind": "gaussian", "sigma": float("nan")}},
        {"dataset": "x", "noise": {"kind": "gaussian", "sigma": 1e308}},
        {"dataset": "x", "noise": {"kind": "laplace"}},
        {"dataset": "x", "encoder": {"kind": "conv", "dim": 10**9}},
        {"dataset": "x", "method": {"kind": "simclr", "local": 1}},
        {"dataset": "x", "noise": {"kind": "uniform", "layers": 0.1}},
        {"dataset": "x", "noise": {"kind": "uniform", "learned": True}},
        {"dataset": "x", "format_version": 2},
    ],
)
def test_bad_values_are_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        TrainSpec.model_validate(values)


def sample(n: int, d: int) -> list[list[float]]:
    return np.random.default_rng(0).standard_normal((n, d)).tolist()


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (None, "valid"),
        ([], "at least 100 items"),
        (sample(99, 2), "at least 100 items"),
        (sample(100, 1), "at least 2 items"),
        (sample(700, 65), "at most 64 items"),
        (sample(110, 12), "too few for 12 dimensions; give at least 120"),
        (sample(MOST_VALUES // 64 + 1, 64), "the most"),
        ([*sample(100, 2), [1.0, 2.0, 3.0]], "point 100 has 3 coordinates"),
        ([*sample(100, 2), [1.0, None]], "valid number"),
        ([*sample(100, 2), [1.0, float("nan")]], "finite"),
        ([*sample(100, 2), [1.0, 1e7]], "less than or equal to 1000000"),
        ([[x, 5.0] for x, _ in sample(100, 2)], "coordinate 1 is the same in every point"),
        ([[x, 3 - 2 * x] for x, _ in sample(100, 2)], "a plane of fewer dimensions"),
        ({"digest": "sha256:x", "n": 100, "dim": 2}, "pattern"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_points_from_which_no_law_can_be_learnt(points: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainSpec.model_validate({"dataset": "digits", "prior": {"kind": "flow", "points": points}})


def test_a_stored_spec_has_the_digest_of_its_points_and_cannot_be_trained() -> None:
    facts = DatasetFacts(name="digits", n_train=1438, n_test=359, height=8, width=8, channels=1)
    full = TrainSpec.model_validate({"dataset": "digits", "prior": {"kind": "flow", "points": PLANE}}).filled(
        facts
    )
    assert full.encoder.dim == 2, "as many as the points have"
    stored = full.stored()
    assert stored.digest == full.digest
    assert len(stored.model_dump_json()) < 5000
    assert isinstance(stored.prior, laws.FlowPrior)
    assert stored.prior.points == StoredPoints(digest=stored.prior.points.digest, n=120, dim=2)
    assert stored.stored() == stored
    assert type(full).model_validate_json(stored.model_dump_json()) == stored
    resolve(full, facts)
    with pytest.raises(SpecError, match="give the points") as caught:
        resolve(stored, facts)
    assert caught.value.pointer == "/prior/points"
    other = laws.FlowPrior(points=[*PLANE[:-1], [0.0, 0.0]])
    assert other.stored() != stored.prior
    assert full.model_copy(update={"prior": other}).digest != full.digest


def test_the_shortest_spec_is_a_complete_job() -> None:
    facts = DatasetFacts(name="mnist", n_train=60_000, n_test=10_000, height=28, width=28, channels=1)
    full = TrainSpec.model_validate({"dataset": "mnist", "encoder": {"kind": "conv", "dim": 2}}).filled(facts)
    optional = {"image_size", "epochs", "batch_size", "critic", "objective", "normalization", "optimizer"}
    assert all(getattr(full, field) is not None for field in optional)


@pytest.mark.parametrize(
    ("changes", "facts", "neighbors", "weight"),
    [
        ({"dim": 2}, {}, 15, 0.3),
        ({"dim": 16}, {}, 15, 1.0),
        ({"dim": 64}, {}, 0, 1.0),
        ({"dim": 2}, {"n_train": 1400}, 0, None),
        ({"dim": 2}, {"n_train": 1_000_000}, 0, None),
        ({"dim": 2}, {"channels": 3}, 0, None),
        ({"dim": 2, "noise": {"kind": "none"}}, {}, 0, None),
        ({"dim": 2, "noise": {"kind": "uniform"}}, {}, 0, None),
        ({"dim": 2, "method": {"kind": "infomax"}}, {}, 0, None),
    ],
    ids=str,
)
def test_few_dimensions_of_many_gray_images_are_filled_by_neighbours(
    changes: dict, facts: dict, neighbors: int, weight: float | None
) -> None:
    known = {"name": "x", "n_train": 60_000, "n_test": 10_000, "height": 28, "width": 28, "channels": 1}
    values = {"dataset": "x", **changes}
    values["encoder"] = {"kind": "conv", "dim": values.pop("dim")}
    full = TrainSpec.model_validate(values).filled(DatasetFacts(**{**known, **facts}))
    assert full.method.neighbors == neighbors
    assert getattr(full.regularizer, "weight", None) == weight
    known = DatasetFacts(**{**known, **facts})
    first = first_stage(full, known)
    assert (first is None) == (neighbors == 0)
    if first is not None:
        many = full.encoder.dim >= 8
        assert (first.epochs, full.epochs) == (8, 40 if many else 16)
        assert (full.regularizer.bhep > 0) == many
        for given, shorter in (
            ({"epochs": 10}, 5),
            ({"method": {"kind": "infomax", "neighbors": 3, "first_epochs": 20}}, 20),
        ):
            other = first_stage(TrainSpec.model_validate({**values, **given}).filled(known), known)
            assert other is not None
            assert other.epochs == shorter


@pytest.mark.parametrize(
    ("changes", "critic"),
    [
        ({}, "gaussian_channel"),
        ({"noise": {"kind": "gaussian", "sigma": 0.3, "layers": 0.1}}, "gaussian_channel"),
        ({"encoder": {"kind": "conv", "dim": 2}}, "separable"),
        ({"encoder": {"kind": "conv", "dim": 64}}, "separable"),
        ({"method": {"kind": "infomax"}}, "separable"),
        ({"noise": {"kind": "gaussian", "start": 1.0}}, "separable"),
        ({"noise": {"kind": "gaussian", "branches": "both"}}, "separable"),
        ({"noise": {"kind": "gaussian", "learned": True}}, "separable"),
        ({"objective": {"kind": "nwj"}}, "separable"),
        ({"head": {"kind": "mlp"}}, "separable"),
        ({"critic": {"kind": "bilinear"}}, "bilinear"),
    ],
    ids=str,
)
def test_two_stages_are_scored_by_the_channel_where_it_is_exact(changes: dict, critic: str) -> None:
    """And only there is so much kept apart: the other critics do not pull views together as it does."""
    facts = DatasetFacts(name="mnist", n_train=60_000, n_test=10_000, height=28, width=28, channels=1)
    full = TrainSpec.model_validate({"dataset": "mnist", **changes}).filled(facts)
    assert full.critic is not None
    assert full.critic.kind == critic
    bhep = getattr(full.regularizer, "bhep", 0.0)
    assert (bhep > 1) == (critic == "gaussian_channel")
    resolve(full, facts)


@pytest.mark.parametrize(
    ("changes", "sigma"),
    [
        ({"encoder": {"kind": "conv", "dim": 8}}, 0.44),
        ({}, 0.6),
        ({"encoder": {"kind": "conv", "dim": 32}}, 0.75),
        ({"critic": {"kind": "gaussian_channel"}}, 0.6),
        ({"critic": {"kind": "gaussian_channel"}, "encoder": {"kind": "conv", "dim": 2}}, 0.2),
        ({"critic": {"kind": "gaussian_channel"}, "method": {"kind": "infomax"}}, 0.5),
        ({"critic": {"kind": "separable"}}, 0.5),
        ({"noise": {"kind": "gaussian", "sigma": 0.3}}, 0.3),
    ],
    ids=str,
)
def test_two_stages_with_the_exact_critic_have_more_noise(changes: dict, sigma: float) -> None:
    """Whether that critic was given or is the default; and what is filled stays as it is when it is given again."""
    facts = DatasetFacts(name="mnist", n_train=60_000, n_test=10_000, height=28, width=28, channels=1)
    full = TrainSpec.model_validate({"dataset": "mnist", **changes}).filled(facts)
    assert full.noise.sigma == sigma
    assert TrainSpec.model_validate(full.model_dump(mode="json")).filled(facts) == full


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "handwriting"),
        ({"encoder": {"kind": "conv", "dim": 8}}, "handwriting"),
        ({"image_size": 20}, "handwriting"),
        ({"image_size": 19}, "digits"),
        ({"encoder": {"kind": "conv", "dim": 2}}, "digits"),
        ({"encoder": {"kind": "conv", "dim": 64}}, "digits"),
        ({"method": {"kind": "infomax"}}, "digits"),
        ({"augmentation": {"kind": "digits", "elastic": 0.1}}, "digits"),
    ],
    ids=str,
)
def test_views_of_two_stages_vary_the_strokes_where_that_was_tried(changes: dict, kind: str) -> None:
    facts = DatasetFacts(name="mnist", n_train=60_000, n_test=10_000, height=28, width=28, channels=1)
    found = TrainSpec.model_validate({"dataset": "mnist", **changes}).filled(facts).augmentation
    assert found.kind == kind
    assert (found.elastic > 0) == (kind == "handwriting" or "augmentation" in changes)
    assert (found.morphology > 0) == (kind == "handwriting")


def test_every_part_has_a_schema_with_bounds() -> None:
    schema = TypeAdapter(TrainSpec).json_schema()
    text = str(schema)
    assert "discriminator" in text
    for definition in schema["$defs"].values():
        for name, field in definition.get("properties", {}).items():
            numbers = [v for v in field.get("anyOf", [field]) if v.get("type") in ("number", "integer")]
            for number in numbers:
                assert {"minimum", "exclusiveMinimum"} & set(number), name
                assert {"maximum", "exclusiveMaximum"} & set(number), name
