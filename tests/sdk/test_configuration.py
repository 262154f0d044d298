"""Where a client connects to: arguments, environment, flame.yaml, the token of this machine."""

from pathlib import Path

import pytest

from flame.model.errors import InvalidConfiguration
from flame.sdk.configuration import ClientConfiguration, resolve
from flame.wire.managers import show

HOME = """
current-context: home
contexts:
  - name: home
    cluster:
      endpoint: http://127.0.0.1:8080
      token_file: {token_file}
  - name: far
    cluster: {{endpoint: "https://far:8443", tls: {{ca_file: /etc/far.pem}}}}
    cache: {{endpoint: "grpcs://far:9090"}}
    package: {{storage: "file:///x", excludes: ["*.pyc"]}}
    runner: {{template: flmrun}}
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"FLAME_CONFIG_DIR": str(tmp_path)}


def write(directory: Path, text: str, name: str = "flame.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def address(configuration: ClientConfiguration) -> str:
    return show(configuration.endpoints)


def test_nothing_configured_is_no_endpoint(environment: dict[str, str]) -> None:
    assert resolve(environment=environment) == ClientConfiguration()


def test_a_running_flame_up_alone_configures_nothing(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, "secret\n", "token")
    assert resolve(environment=environment).endpoints == ()


def test_an_argument_counts_more_than_the_environment_and_that_more_than_the_file(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, "contexts: [{name: a, cluster: {endpoint: 'http://file:1'}}]")
    assert address(resolve(environment=environment)) == "http://file:1"
    environment["FLAME_ENDPOINT"] = "http://environment:2"
    assert address(resolve(environment=environment)) == "http://environment:2"
    assert address(resolve("http://argument:3", environment=environment)) == "http://argument:3"


def test_the_default_endpoint_counts_least(environment: dict[str, str]) -> None:
    local = "http://127.0.0.1:8080"
    assert address(resolve(default_endpoint=local, environment=environment)) == local
    environment["FLAME_ENDPOINT"] = "http://other:1"
    found = resolve(default_endpoint=local, environment=environment)
    assert address(found) == "http://other:1"


def test_the_token_of_this_machine_is_found_for_a_loopback_address_only(
    environment: dict[str, str], tmp_path: Path
) -> None:
    write(tmp_path, "secret\n", "token")
    for host in ("127.0.0.1", "localhost", "[::1]"):
        assert resolve(f"http://{host}:8080", environment=environment).token == "secret"
    assert resolve("http://elsewhere:8080", environment=environment).token is None


def test_tokens_come_from_argument_file_and_environment_in_that_order(
    environment: dict[str, str], tmp_path: Path
) -> None:
    file = write(tmp_path, "of-file\n", "given")
    environment |= {"FLAME_TOKEN": "of-variable", "FLAME_TOKEN_FILE": str(tmp_path / "absent")}
    where = "http://h:1"
    assert resolve(where, token="of-argument", environment=environment).token == "of-argument"
    assert resolve(where, token_file=file, environment=environment).token == "of-file"
    assert resolve(where, environment=environment).token == "of-variable"
    environment["FLAME_TOKEN"] = ""
    with pytest.raises(InvalidConfiguration, match=r"FLAME_TOKEN_FILE .*absent: No such file"):
        resolve(where, environment=environment)


def test_the_current_context_gives_endpoint_token_and_authority(
    environment: dict[str, str], tmp_path: Path
) -> None:
    token_file = write(tmp_path, "of-home", "home.token")
    path = write(tmp_path, HOME.format(token_file=token_file))
    assert resolve(environment=environment).token == "of-home"
    path.write_text(path.read_text().replace("current-context: home", "current-context: far"))
    found = resolve(environment=environment)
    assert address(found) == "https://far:8443"
    assert found.ca_file == "/etc/far.pem"


def test_a_contexts_token_is_not_sent_to_another_cluster(
    environment: dict[str, str], tmp_path: Path
) -> None:
    token_file = write(tmp_path, "of-home", "home.token")
    write(tmp_path, HOME.format(token_file=token_file))
    assert resolve("http://127.0.0.1:9999", environment=environment).token is None


def test_another_file_may_be_named(environment: dict[str, str], tmp_path: Path) -> None:
    other = write(
        tmp_path, "contexts: [{name: a, cluster: {endpoint: 'http://o:1'}}]", "other.yaml"
    )
    assert address(resolve(config=other, environment=environment)) == "http://o:1"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("contexts: [", "is not YAML"),
        ("[]", "must be a mapping"),
        ("context: []", "'context'; allowed are contexts, current-context"),
        ("contexts: 1", "contexts must be a list"),
        ("contexts: [{name: a, clutser: {}}]", r"contexts\[0\] has the key 'clutser'; allowed are"),
        ("contexts: [{name: a, cluster: {endpiont: x}}]", "'endpiont'; allowed are endpoint"),
        ("contexts: [{name: a, cluster: {endpoint: 1}}]", "endpoint is 1; it must be text"),
        ("contexts: [{name: a, cluster: {endpoint: ftp://x}}]", "ftp://x"),
        ("contexts: [{name: a}, {name: b}]", "current-context is None; allowed .* 'a', 'b'"),
        ("current-context: c\ncontexts: [{name: a}]", "current-context is 'c'; allowed .* 'a'"),
    ],
)
def test_a_wrong_file_is_named_with_key_and_what_is_allowed(
    environment: dict[str, str], tmp_path: Path, text: str, complaint: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidConfiguration, match=complaint) as caught:
        resolve(environment=environment)
    assert str(path) in str(caught.value)


def test_an_empty_file_configures_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, "")
    assert resolve(environment=environment).endpoints == ()


def test_token_and_token_file_together_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidConfiguration, match="give one"):
        resolve("http://h:1", token="a", token_file="b", environment=environment)


def test_an_empty_token_file_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    file = write(tmp_path, "\n", "given")
    with pytest.raises(InvalidConfiguration, match="holds no token"):
        resolve("http://h:1", token_file=file, environment=environment)


@pytest.mark.parametrize(
    "given", ["http://a:1, http://b:2,http://a:1", ["http://a:1", "http://b:2"]]
)
def test_several_session_managers_may_be_named(
    given: str | list[str], environment: dict[str, str]
) -> None:
    assert address(resolve(given, environment=environment)) == "http://a:1,http://b:2"


def test_a_file_may_name_several_in_a_list(tmp_path: Path, environment: dict[str, str]) -> None:
    write(tmp_path, "contexts: [{name: a, cluster: {endpoint: ['http://a:1', 'http://b:2']}}]")
    assert address(resolve(environment=environment)) == "http://a:1,http://b:2"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("http://a:1,https://b:2", "some are https and some are not"),
        ("http://a:1,", "'' is not an address"),
        ([], "nor a list of them"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(
    given: str | list[str], told: str, environment: dict[str, str]
) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        resolve(given or ["http://a:1", 2], environment=environment)  # type: ignore[list-item]
