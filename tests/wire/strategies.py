"""Hypothesis strategies for the model's values."""

from hypothesis import strategies as st

from flame.model.resources import Resources, extras
from flame.model.specs import ApplicationSpec, Durability, Event, Sandbox, SessionSpec, ShimKind
from flame.model.volumes import Volume

# What protobuf carries as a string: anything but lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
optional_texts = st.none() | texts
payloads = st.none() | st.binary(max_size=64)

resources = st.builds(
    Resources,
    cpu_millis=st.integers(0, 2**30),
    memory_bytes=st.integers(0, 2**63 - 1),
    gpus=st.integers(0, 2**31 - 1),
    extras=st.dictionaries(
        st.sampled_from(["fpga", "license/x", "tpu.v2"]), st.integers(0, 2**63 - 1)
    ).map(extras),
)
label_texts = st.text("abcXYZ019", min_size=1, max_size=10)
labels = st.dictionaries(label_texts, label_texts, max_size=4).map(
    lambda pairs: tuple(sorted(pairs.items()))
)


_volumes = st.lists(
    st.builds(
        Volume,
        st.text("abc-1", max_size=6).map(lambda text: f"v{text}0"),
        names.map("/".__add__),
        st.booleans(),
    ),
    max_size=3,
    unique_by=lambda volume: volume.name,
).map(tuple)


@st.composite
def application_specs(draw: st.DrawFn) -> ApplicationSpec:
    shim = draw(st.sampled_from([kind for kind in ShimKind if kind is not ShimKind.UNSPECIFIED]))
    sandbox = draw(st.sampled_from(Sandbox))
    may_preload = shim is ShimKind.PYTHON and not sandbox
    schema = draw(st.none() | st.tuples(optional_texts, optional_texts, optional_texts))
    variable = names.filter(lambda name: "=" not in name)
    value = texts.filter(lambda text: "\0" not in text)
    return ApplicationSpec(
        shim=shim,
        description=draw(optional_texts),
        labels=tuple(draw(st.lists(texts, max_size=3))),
        image=draw(optional_texts),
        command=draw(optional_texts),
        arguments=tuple(draw(st.lists(texts, max_size=3))),
        environments=tuple(draw(st.lists(st.tuples(variable, value), max_size=3))),
        working_directory=draw(st.sampled_from([None, "", "/", "/srv/app"])),
        max_instances=draw(st.none() | st.integers(1, 2**32 - 1)),
        delay_release=draw(st.none() | st.integers(0, 2**63 - 1)),
        schema_input=schema[0] if schema else None,
        schema_output=schema[1] if schema else None,
        schema_common_data=schema[2] if schema else None,
        has_schema=schema is not None,
        url=draw(optional_texts),
        installer=draw(optional_texts),
        entry_point=draw(st.sampled_from(["module:name", "a.b_c:D.e"])),
        reusable=draw(st.booleans()),
        pickled_service=draw(st.binary(max_size=64)),
        pickled_with=draw(st.sampled_from(["", "3.11"])),
        local_modules=draw(st.binary(max_size=64)),
        shim_options=tuple(draw(st.dictionaries(names, texts, max_size=3)).items()),
        sandbox=sandbox,
        volumes=draw(_volumes),
        preload=may_preload and draw(st.booleans()),
        standby=draw(st.none() | st.integers(0, 2**32 - 1)),
    )


RETRIED = ((), ("ConnectionError",), ("mylib.Transient", "75"))


@st.composite
def session_specs(draw: st.DrawFn) -> SessionSpec:
    batch = draw(st.integers(1, 1000))
    least = draw(st.integers(0, 1000))
    most = draw(st.none() | st.integers(max(least, 1), 2000))
    retries = draw(st.integers(0, 3))
    return SessionSpec(
        application=draw(names),
        common_data=draw(payloads),
        min_instances=least * batch,
        max_instances=None if most is None else most * batch,
        batch_size=batch,
        priority=draw(st.integers(0, 2**32 - 1)),
        resources=draw(resources.filter(lambda amount: amount != Resources())),
        durability=draw(st.sampled_from(Durability)),
        max_attempts=draw(st.integers(1, 2**32 - 1)),
        require=draw(labels),
        prefer=tuple((n, v, draw(st.integers(1, 1000))) for n, v in draw(labels)),
        near=tuple(draw(st.lists(names, max_size=3, unique=True))),
        retry_on_failure=retries,
        retry_on=draw(st.sampled_from(RETRIED)) if retries else (),
        standby=draw(st.none() | st.integers(0, 2**32 - 1)),
    )


events = st.builds(
    Event,
    code=st.integers(-(2**31), 2**31 - 1),
    message=texts,
    created_ms=st.integers(0, 2**62),
)
