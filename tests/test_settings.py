"""The DEPOSIT_TOKEN_* table: read once, every value checked, every bad one refused by name."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.models import Mode
from deposit_token_sdk.settings import PREFIX, TABLE, OfferRules, Secret, Settings
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from deposit_token_sdk.words import TokenKind

REQUIRED = {
    "DEPOSIT_TOKEN_BANK": "sandbox-bank",
    "DEPOSIT_TOKEN_URL": "https://bank.example/api",
    "DEPOSIT_TOKEN_MERCHANT": "demo-shop",
    "DEPOSIT_TOKEN_MODE": "test",
}


def read(**changes: str) -> Settings:
    return Settings.from_env({**REQUIRED, **{PREFIX + name: value for name, value in changes.items()}})


def refused(environ: dict[str, str]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as error:
        Settings.from_env(environ)
    return error.value


def refused_value(**changes: str) -> ConfigurationError:
    return refused({**REQUIRED, **{PREFIX + name: value for name, value in changes.items()}})


# -- the table -------------------------------------------------------------------------------------------------


def test_every_setting_becomes_a_field_of_the_settings() -> None:
    fields = {field.name.upper() for field in attrs.fields(Settings)} - {"OFFER_RULES", "OWN"}
    fields |= {"MERCHANT_COUNTRY", "BUYER_COUNTRIES", "TOKEN_KINDS", "TOKENS_FILE", "EMBARGO_FILE"}  # in `offer_rules`
    read_elsewhere = {"SIGNING_KEY_FILE", "CHECKOUT", "SPECS"}  # into SIGNING_KEY, and by the commands alone
    assert {name for name in TABLE if name not in fields} == read_elsewhere
    assert fields <= set(TABLE)


def test_four_settings_are_all_that_must_be_given() -> None:
    settings = Settings.from_env(REQUIRED)
    assert (settings.bank, settings.merchant, settings.mode) == ("sandbox-bank", "demo-shop", Mode.TEST)
    assert (settings.issuer, settings.max_fee) == ("reference", Decimal("0.05"))
    assert (settings.url, settings.jwks_url) == (
        "https://bank.example/api",
        "https://bank.example/api/.well-known/jwks.json",
    )
    assert (settings.timeout, settings.deadline, settings.attempts) == (10, 30, 5)
    assert (settings.max_bytes, settings.skew) == (1_048_576, 300)
    assert settings.message_signatures
    assert not settings.signing_key
    assert settings.webhook_keys == settings.other_webhook_keys == ()


@pytest.mark.parametrize("name", REQUIRED)
@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_missing_setting_is_named(name: str, value: str | None) -> None:
    environ = {key: text for key, text in REQUIRED.items() if key != name} | ({} if value is None else {name: value})
    error = refused(environ)
    assert error.reason == "setting_missing"
    assert name in str(error)


def test_all_missing_settings_are_named_at_once() -> None:
    error = refused({})
    assert error.reason == "setting_missing"
    assert all(name in str(error) for name in REQUIRED)


def test_a_misspelt_setting_is_refused_since_it_would_silently_do_nothing() -> None:
    error = refused_value(WEBHOOK_KEY="whpk_x", SIGNINGKEY="x")
    assert error.reason == "setting_unknown"
    assert "DEPOSIT_TOKEN_SIGNINGKEY, DEPOSIT_TOKEN_WEBHOOK_KEY" in str(error)


def test_other_variables_of_the_environment_are_left_alone() -> None:
    plain = Settings.from_env({**REQUIRED, "PATH": "/bin", "URL": "nonsense", "deposit_token_mode": "live"})
    assert plain.mode is Mode.TEST


def test_an_empty_setting_is_one_that_is_not_set() -> None:
    assert read(MAX_FEE=" ").max_fee == Decimal("0.05")


# -- each bad value, by name -----------------------------------------------------------------------------------

BAD: dict[str, list[str]] = {
    "MODE": ["dead", "TEST", "Live", "test live"],
    "MESSAGE_SIGNATURES": ["yes", "true", "1", "ON"],
    "MAX_FEE": ["5%", "-0.01", "1e-2", ".05", "0,05", "NaN", "Infinity"],
    "TIMEOUT": ["0", "0.0", "-1", "ten", "1e1", "NaN"],
    "DEADLINE": ["0", "-30", "30s"],
    "ATTEMPTS": ["0", "1.5", "-1", "many", "0x5"],
    "MAX_BYTES": ["0", "1.5", "1M", "-1"],
    "SKEW": ["0.5", "-300", "5m"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_value_that_cannot_be_right_is_refused_by_name(name: str, value: str) -> None:
    error = refused_value(**{name: value})
    assert error.reason == "setting_invalid"
    assert str(error).startswith(f"DEPOSIT_TOKEN_{name} ")


def test_values_that_can_be_right_are_read() -> None:
    settings = read(MODE="live", MAX_FEE="0", TIMEOUT="0.5", ATTEMPTS="1", SKEW="0", MAX_BYTES="4096.0")
    assert (settings.mode, settings.max_fee) == (Mode.LIVE, Decimal(0))
    assert (settings.timeout, settings.attempts, settings.skew, settings.max_bytes) == (0.5, 1, 0, 4096)
    assert read(MESSAGE_SIGNATURES="off").message_signatures is False


# -- addresses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["URL", "JWKS_URL"])
@pytest.mark.parametrize(
    "address",
    [
        "http://bank.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://10.0.0.1",
        "http://0.0.0.0",
        "ftp://bank.example",
        "file:///etc/passwd",
        "bank.example",
        "//bank.example",
        "https://",
        "https:///path",
        "https://[::1",
        "https://bank.example:port",
        "https://bank.example:99999",
        "https://bank.example:0",
        "https://bank example",
        "https://bank.example/a b",
        "https://bank\n.example",
        "https://bänk.example",
        "https://shop:secret@bank.example",
        "https://@bank.example",
        "https://bank.example?key=1",
        "https://bank.example#part",
    ],
)
def test_an_address_is_https_and_plain(name: str, address: str) -> None:
    error = refused_value(**{name: address})
    assert error.reason == "setting_invalid"
    assert str(error).startswith(f"DEPOSIT_TOKEN_{name} ")
    assert "secret" not in str(error)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_http_is_for_loopback_only(host: str) -> None:
    assert read(URL=f"http://{host}:8001").url == f"http://{host}:8001"
    assert read(JWKS_URL=f"http://{host}:8001/keys").jwks_url == f"http://{host}:8001/keys"


def test_the_keys_are_at_the_banks_own_address_unless_another_is_set() -> None:
    assert read(URL="https://bank.example/").jwks_url == "https://bank.example/.well-known/jwks.json"
    assert read(URL="https://bank.example/v1/").url == "https://bank.example/v1"
    assert read(JWKS_URL="https://keys.example/set").jwks_url == "https://keys.example/set"


def test_the_banks_keys_come_from_one_place() -> None:
    assert read(JWKS_FILE="/etc/bank.json").jwks_file == "/etc/bank.json"
    error = refused_value(JWKS_FILE="/etc/bank.json", JWKS_URL="https://keys.example/set")
    assert error.reason == "setting_invalid"
    assert "DEPOSIT_TOKEN_JWKS_URL" in str(error)
    assert "DEPOSIT_TOKEN_JWKS_FILE" in str(error)


# -- keys ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pem() -> str:
    return SigningKey.generate(Algorithm.ED25519, "shop-1").to_pem().decode()


def test_the_signing_key_is_text_or_a_file(pem: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_text(pem, encoding="ascii")
    one_line = pem.strip().replace("\n", "\\n")
    given = (read(SIGNING_KEY=pem), read(SIGNING_KEY=one_line), read(SIGNING_KEY_FILE=str(file)))
    keys = {SigningKey.from_pem(settings.signing_key.reveal(), Algorithm.ED25519, "k") for settings in given}
    assert len(keys) == 1


def test_text_and_file_together_contradict_each_other(pem: str, tmp_path: Path) -> None:
    error = refused_value(SIGNING_KEY=pem, SIGNING_KEY_FILE=str(tmp_path / "key.pem"))
    assert error.reason == "setting_invalid"
    assert "DEPOSIT_TOKEN_SIGNING_KEY " in str(error)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_key_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "key.pem"
    if content is not None:
        file.write_bytes(content)
    error = refused_value(SIGNING_KEY_FILE=str(file))
    assert error.reason == "setting_invalid"
    assert str(error).startswith("DEPOSIT_TOKEN_SIGNING_KEY_FILE ")


def test_a_folder_is_no_key_file(tmp_path: Path) -> None:
    assert refused_value(SIGNING_KEY_FILE=str(tmp_path)).reason == "setting_invalid"


def test_several_webhook_keys_and_thumbprints_are_separated_by_spaces() -> None:
    settings = read(WEBHOOK_KEYS="whpk_a  whsec_b", OTHER_WEBHOOK_KEYS="whpk_c", JWKS_THUMBPRINTS="t1 t2\tt1")
    assert [key.reveal() for key in settings.webhook_keys] == ["whpk_a", "whsec_b"]
    assert [key.reveal() for key in settings.other_webhook_keys] == ["whpk_c"]
    assert settings.jwks_thumbprints == {"t1", "t2"}


def test_the_shops_rules_on_what_it_offers_are_read_with_the_rest_and_by_themselves() -> None:
    told = {
        "MERCHANT_COUNTRY": "HK",
        "BUYER_COUNTRIES": "DE  FR",
        "TOKEN_KINDS": "stablecoin deposit_token",
        "TOKENS_FILE": "our-tokens.toml",
        "EMBARGO_FILE": "our-embargo.toml",
    }
    rules = read(**told).offer_rules
    assert rules == OfferRules(
        "HK", frozenset({"DE", "FR"}), frozenset(TokenKind), "our-tokens.toml", "our-embargo.toml"
    )
    assert OfferRules.from_env({PREFIX + name: text for name, text in told.items()}) == rules
    assert read().offer_rules == OfferRules.from_env({"DEPOSIT_TOKEN_MODE": "?"}) == OfferRules()
    assert OfferRules().kinds == {TokenKind.DEPOSIT}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("MERCHANT_COUNTRY", value) for value in ("hk", "HKG", "XX", "UK", "EU", "DE FR", "ＤＥ")],
        *[("BUYER_COUNTRIES", value) for value in ("DE,FR", "DE XX", "*")],
        *[("TOKEN_KINDS", value) for value in ("deposit", "deposit_token,stablecoin", "none")],
    ],
)
def test_a_country_or_kind_that_there_is_not_is_refused_by_name(name: str, value: str) -> None:
    error = refused_value(**{name: value})
    assert error.reason == "setting_invalid"
    assert f"DEPOSIT_TOKEN_{name} is " in str(error)


def test_settings_do_not_change_once_read() -> None:
    settings = Settings.from_env(REQUIRED)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.url = "https://other.example"  # type: ignore[misc]


def test_the_shop_may_name_its_checkout_for_the_commands_beside_the_clients_settings() -> None:
    none = Secret("")
    assert attrs.evolve(read(CHECKOUT="shop:app"), signing_key=none) == attrs.evolve(read(), signing_key=none)
