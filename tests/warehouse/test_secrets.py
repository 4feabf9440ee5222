"""Which texts of a plan are taken for secrets, and that no message quotes them."""

from __future__ import annotations

import random
import string

import pytest

from warehouse.secrets import EnvReference, is_key, is_secret_header, literal_secrets, mask, resolve

HEX = "9f86d081884c7d659a2feaa0c55ad015"
SECRETS = {
    "headers": [
        ("Authorization", "Bearer abc"),
        ("authorization", "anything"),
        ("Api-Key", "hunter2"),
        ("X-Api-Key", "hunter2"),
        ("Ocp-Apim-Subscription-Key", "hunter2"),
        ("Helicone-Auth", "hunter2"),
        ("X-Access-Token", "hunter2"),
        ("Cookie", "id=1"),
        ("X-Team", "sk-proj-abc123def456"),
        ("X-Team", HEX),
        ("X-Team", "2f1c9d3e-8a47-4f0b-9c1d-7b6a5e4d3c2b"),
    ],
    "extra_body": [
        ("api_key", "hunter2"),
        ("password", "hunter2"),
        ("user", "hf_abcdefghijklmnopqrstuvwxyz0123456789"),
        ("user", "AIzaSyA1234567890abcdefghijklmnopqrstuv"),
        ("user", HEX),
    ],
}
PLAIN = {
    "headers": [
        ("X-Title", "My application, version 2"),
        ("HTTP-Referer", "https://example.org/project-2026"),
        ("anthropic-version", "2023-06-01"),
        ("OpenAI-Organization", "my-team"),
        ("X-Model", "meta-llama/Llama-3.1-70B-Instruct"),
    ],
    "extra_body": [
        ("stop_token", "</s>"),
        ("prompt_cache_key", "run-7"),
        ("model_path", "accounts/fireworks/models/deepseek-v3p1"),
        ("fallback", "openai/gpt-4o-mini-2024-07-18"),
        ("revision", HEX),
    ],
}


def _plan(option, name, value):
    return {"teacher": {"use": "openai_chat", "model": "m", option: {name: value}}}


@pytest.mark.parametrize(
    ("option", "name", "value"), [(o, *pair) for o, pairs in SECRETS.items() for pair in pairs]
)
def test_a_literal_secret_is_refused_with_how_to_write_it(option, name, value):
    [fault] = literal_secrets(_plan(option, name, value))
    assert fault.startswith(f"teacher.{option}.{name}: ")
    assert f'{name} = {{ env = "MY_SECRET" }}' in fault
    assert value not in fault.replace("X-Api-Key", "")


@pytest.mark.parametrize(
    ("option", "name", "value"), [(o, *pair) for o, pairs in PLAIN.items() for pair in pairs]
)
def test_ordinary_headers_and_fields_stay(option, name, value):
    assert literal_secrets(_plan(option, name, value)) == []


@pytest.mark.parametrize(
    "key",
    ["sk-abc123def456", HEX, "hf_abcdefghijk", "my key", "Bearer xyz", "AKIAIOSFODNN7EXAMPLE"],
)
def test_a_key_in_place_of_its_variable_is_refused_without_an_echo(key):
    for plan in (
        {"teacher": {"api_key_env": key}},
        {"quality": {"judge": {"api_key_env": key}}},
        {"teacher": {"headers": {"Authorization": {"env": key}}}},
    ):
        [fault] = literal_secrets(plan)
        assert "name of an environment variable" in fault
        assert key not in fault
    with pytest.raises(ValueError) as caught:
        EnvReference(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "AZURE_OPENAI_API_KEY_PRODUCTION_2", "key", "MY_2ND_KEY_2026"]
)
def test_names_of_variables_stay(name):
    assert literal_secrets({"teacher": {"api_key_env": name}}) == []
    assert EnvReference(name).env == name


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hunter2@example.org/v1",
        "https://hunter2@example.org/v1",
        "https://example.org/v1?api_key=hunter2",
        f"https://example.org/v1?code={HEX}",
    ],
)
def test_credentials_in_an_address_are_refused(url):
    for plan in ({"teacher": {"base_url": url}}, {"teacher": {"more_urls": ["http://b/v1", url]}}):
        [fault] = literal_secrets(plan)
        assert "the address contains" in fault and "headers = {" in fault
        assert "hunter2" not in fault and HEX not in fault
    assert (
        literal_secrets({"teacher": {"base_url": "https://a.example/v1?api-version=2024-06-01"}})
        == []
    )


def test_known_keys_are_refused_anywhere_and_hashes_are_not():
    [fault] = literal_secrets(
        {"datagen": {"recipe": [{"instruction": "use sk-abc123def456ghi789"}]}}
    )
    assert fault.startswith("datagen.recipe.0.instruction: ") and "sk-abc" not in fault
    assert literal_secrets({"train": {"revision": HEX, "base": "sk-learn-models-of-mine"}}) == []


def test_nine_random_keys_of_ten_are_recognized():
    draw = random.Random(0)
    for alphabet in (string.ascii_letters + string.digits, string.hexdigits[:16]):
        keys = ["".join(draw.choices(alphabet, k=24)) for _ in range(500)]
        assert sum(map(is_key, keys)) >= 450


def test_references_are_resolved_wherever_they_stand():
    values = {"A": "one", "B": "two"}
    body = {"user": {"env": "A"}, "list": [{"env": "B"}, {"env": "not a name"}], "n": 1}
    assert resolve(body, values.__getitem__) == {
        "user": "one", "list": ["two", {"env": "not a name"}], "n": 1,
    }  # fmt: skip
    assert resolve({"h": EnvReference("A")}, values.__getitem__) == {"h": "one"}


def test_masked_texts_keep_the_rest():
    assert mask("m@https://me:pw@host/v1 {}") == "m@https://***@host/v1 {}"
    assert mask("Authorization: Bearer abcdefghijklmnop1") == "Authorization: ***"


def test_a_header_about_cookies_is_no_secret():
    assert not is_secret_header("Cookie-Policy")
    assert is_secret_header("Cookie") and is_secret_header("Set-Cookie")
