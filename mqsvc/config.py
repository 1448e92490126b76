"""The configuration: a TOML file, then the environment, then the command line.

It is read once, into frozen objects; what is wrong with it is said in one line that
names where the value came from, the option and what is expected there. Values that
may hold a secret appear neither in such a line nor in a ``repr``.
"""

from __future__ import annotations

import difflib
import reprlib
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from attrs import field as attribute
from attrs import frozen
from msgspec import Meta, Struct, field, inspect, structs

from mqsvc.messaging.limits import Limits
from mqsvc.messaging.quotas import QuotaLimits
from mqsvc.secret_options import (
    Drivers,
    Encryption,
    KeystoneAuthtoken,
    Notification,
    Secrets,
    SignedUrl,
    Text,
    Trustee,
)
from mqsvc.websocket.options import WebSocketOptions

GREATEST = 2**31 - 1
"""No number may be greater: 68 years in seconds, 2 GiB in bytes."""

VARIABLE_PREFIX = "MQSVC_"

RESERVED_VARIABLES = frozenset(
    {"MQSVC_CONFIG", "MQSVC_VENV", "MQSVC_KEYSTONE_VENV", "MQSVC_TEST_JOBS"}
)
"""Variables that are no options: the file's name, and what the scripts use."""

SERVICE_VARIABLES = ("MQSVC_SERVICE_", "MQSVC_PORT")
"""What Kubernetes puts beside a service of this name; its processes ignore them."""

FREE = "stages"
"""The group of tables whose options are declared elsewhere; only a file has them."""

IF_FREE = "if-free:"
"""Before the endpoint of ``websocket``: start without that port if it is taken."""

NOT_GREATER = (
    ("transport.default_message_ttl", "transport.max_message_ttl"),
    ("transport.default_message_delay", "transport.max_message_delay"),
    ("transport.default_claim_ttl", "transport.max_claim_ttl"),
    ("transport.default_claim_grace", "transport.max_claim_grace"),
    ("transport.min_length_client_id", "transport.max_length_client_id"),
)
"""Pairs of options: the first must be at most the second."""


class ConfigError(ValueError):
    """The configuration cannot be used; the text is one line for the operator."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.splitlines()))


class Storage(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``storage`` group.

    :ivar message_pipeline: names of stages before the message store, outermost first.
    """

    message_pipeline: tuple[Text, ...] = ()


class CORSOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``cors`` group.

    :ivar allowed_origin: scheme, host and port of pages that may call, or ``*`` for
        all, which then come without credentials; none at all by default.
    :ivar max_age: seconds that a browser may remember what it was allowed.
    :ivar allow_headers: of requests, beside those of the API.
    :ivar expose_headers: of answers, beside those of the API.
    """

    allowed_origin: tuple[Text, ...] = ()
    allow_credentials: bool = True
    max_age: Annotated[int, Meta(ge=0)] = 3600
    allow_headers: tuple[Text, ...] = ()
    expose_headers: tuple[Text, ...] = ()


@frozen
class FreeTables:
    """Tables of the file whose options are not declared here.

    :ivar by_name: for each table what it holds; never shown, it may hold secrets.
    """

    by_name: Mapping[str, Mapping[str, Any]] = attribute(factory=dict, repr=False)


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Every option; etc/mqsvc.toml says what each one does.

    :ivar stages: the options of each stage, ``[stages.NAME]`` in the file.
    """

    admin_mode: bool = False
    allow_anonymous: bool = False
    audit_log: str = ""
    auth_strategy: Literal["", "keystone", "token_file"] = ""
    data_dir: Text = "mqsvc-data"
    enable_checksum: bool = False
    enable_virtual_pool: bool = True
    http: Text = "tcp:8888:interface=127.0.0.1"
    http_server: Literal["llhttp", "twisted.web"] = "llhttp"
    policy_file: str = ""
    pooling: bool = False
    record_cache_time: Annotated[int, Meta(ge=0)] = 5
    token_file: str = ""
    websocket: str = f"{IF_FREE}tcp:9000:interface=127.0.0.1"
    websocket_on_http: bool = True
    workers: Annotated[int, Meta(ge=1)] = 1
    transport: Limits = field(default_factory=Limits)
    signed_url: SignedUrl = field(default_factory=SignedUrl)
    drivers: Drivers = field(default_factory=Drivers)
    storage: Storage = field(default_factory=Storage)
    encryption: Encryption = field(default_factory=Encryption)
    keystone_authtoken: KeystoneAuthtoken = field(default_factory=KeystoneAuthtoken)
    trustee: Trustee = field(default_factory=Trustee)
    notification: Notification = field(default_factory=Notification)
    websocket_limits: WebSocketOptions = field(default_factory=WebSocketOptions)
    cors: CORSOptions = field(default_factory=CORSOptions)
    quotas: QuotaLimits = field(default_factory=QuotaLimits)
    stages: FreeTables = field(default_factory=FreeTables)

    @property
    def websocket_endpoint(self) -> str:
        """Where the WebSocket API has a port of its own; empty where it has none."""
        return self.websocket.removeprefix(IF_FREE)

    @property
    def needs_websocket_port(self) -> bool:
        """Whether the service does not start without that port."""
        return not self.websocket.startswith(IF_FREE)


@frozen
class Option:
    """One option as the program declares it.

    :ivar name: ``option`` or ``group.option``.
    :ivar kind: its type, bounds included.
    :ivar is_secret: whether its value must not be shown.
    """

    name: str
    kind: Any
    is_secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return VARIABLE_PREFIX + self.name.upper().replace(".", "__")


@frozen
class Given:
    """One option as somebody wrote it.

    :ivar origin: the file, the variable, or the command-line option.
    :ivar is_text: whether the value is text to be converted to the option's type.
    """

    origin: str
    option: Option
    value: Any = attribute(repr=False)
    is_text: bool = True


def known_options() -> dict[str, Option]:
    """All options by name."""
    return {option.name: option for option in _declared()}


def load(
    path: str | None, environ: Mapping[str, str], overrides: Sequence[str]
) -> Settings:
    """The settings of one process; later sources win.

    :param path: a TOML file, if there is one.
    :param environ: ``MQSVC_OPTION`` and ``MQSVC_GROUP__OPTION`` are looked at.
    :param overrides: ``OPTION=VALUE`` and ``GROUP.OPTION=VALUE``, or ``--OPTION=VALUE``
        where the command line has an option of that name.
    :raise ConfigError: something is unknown, malformed or out of its bounds.
    """
    options = known_options()
    given: dict[str, Given] = {}
    values: dict[str, Any] = {}
    document = {} if path is None else _document(path)
    free = _free_tables(path, document.pop(FREE, {}))
    for entry in _all_given(path, document, environ, overrides, options):
        given[entry.option.name] = entry
        values[entry.option.name] = _converted(entry)
    settings = msgspec.convert(_nested(values), Settings)
    settings = structs.replace(settings, **{FREE: free})
    _check_authentication(settings, given)
    _check_pairs(settings, given)
    return settings


def _declared() -> Iterator[Option]:
    for outer in structs.fields(Settings):
        if outer.type is FreeTables:
            continue
        if not (isinstance(outer.type, type) and issubclass(outer.type, Struct)):
            yield Option(outer.name, outer.type)
            continue
        is_secret = issubclass(outer.type, Secrets)
        for inner in structs.fields(outer.type):
            yield Option(f"{outer.name}.{inner.name}", inner.type, is_secret)


def _all_given(
    path: str | None,
    document: Mapping[str, Any],
    environ: Mapping[str, str],
    overrides: Sequence[str],
    options: Mapping[str, Option],
) -> Iterator[Given]:
    if path is not None:
        yield from _given_in_file(path, document, options)
    yield from _given_in_environment(environ, options)
    yield from _given_as_overrides(overrides, options)


def _given_in_file(
    path: str, document: Mapping[str, Any], options: Mapping[str, Option]
) -> Iterator[Given]:
    groups = {name.partition(".")[0] for name in options if "." in name}
    for name, value in document.items():
        if name not in groups:
            yield Given(path, _find(path, name, options), value, is_text=False)
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"{path}: {name} is a group, expected [{name}]")
        for inner, each in value.items():
            option = _find(path, f"{name}.{inner}", options)
            yield Given(path, option, each, is_text=False)


def _free_tables(path: str | None, tables: Any) -> FreeTables:
    if not isinstance(tables, dict):
        raise ConfigError(
            f"{path}: {FREE} is a group of groups, expected [{FREE}.NAME]"
        )
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(
                f"{path}: {FREE}.{name} is a group, expected [{FREE}.{name}]"
            )
    return FreeTables(tables)


def _document(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not a TOML file: {error}") from error


def _given_in_environment(
    environ: Mapping[str, str], options: Mapping[str, Option]
) -> Iterator[Given]:
    variables = {option.variable: option for option in options.values()}
    for name, text in environ.items():
        is_ours = name.startswith(VARIABLE_PREFIX) and name not in RESERVED_VARIABLES
        if is_ours and not name.startswith(SERVICE_VARIABLES):
            if name not in variables:
                hint = _nearest(name, [*variables, *RESERVED_VARIABLES])
                raise ConfigError(f"{name}: there is no such variable{hint}")
            yield Given(name, variables[name], text)


def _given_as_overrides(
    overrides: Sequence[str], options: Mapping[str, Option]
) -> Iterator[Given]:
    for override in overrides:
        name, equals, text = override.partition("=")
        origin = "--set"
        if name.startswith("--"):
            origin, name = name, name.removeprefix("--").replace("-", "_")
        if not equals:
            # The text is not repeated: it may be a secret with a slip in it.
            raise ConfigError(f"{origin}: expected OPTION=VALUE or GROUP.OPTION=VALUE")
        yield Given(origin, _find(origin, name, options), text)


def _find(origin: str, name: str, options: Mapping[str, Option]) -> Option:
    if name in options:
        return options[name]
    raise ConfigError(f"{origin}: there is no option {name!r}{_nearest(name, options)}")


def _nearest(name: str, known: Collection[str]) -> str:
    if any(each.startswith((f"{name}.", f"{name}__")) for each in known):
        return "; it is a group, name one of its options"
    if name.lower().removeprefix("mqsvc_").startswith(FREE):
        return f"; options of stages stand in the file, as [{FREE}.NAME]"
    nearest = difflib.get_close_matches(name, known, n=1)
    if nearest:
        return f"; did you mean {nearest[0]}?"
    return "; docs/configuration.rst lists them all"


def _converted(given: Given) -> Any:
    value, kind = given.value, inspect.type_info(given.option.kind)
    if isinstance(kind, inspect.UnionType) and value == "":
        # TOML and the environment have no other way to write "not set".
        return None
    if isinstance(kind, inspect.VarTupleType) and given.is_text:
        value = [part.strip() for part in value.split(",") if part.strip()]
    try:
        if isinstance(kind, inspect.StructType) and given.is_text:
            # Only a file has tables.
            value = msgspec.json.decode(value)
        value = msgspec.convert(value, given.option.kind, strict=not given.is_text)
    except (msgspec.ValidationError, msgspec.DecodeError):
        raise _unexpected(given, kind) from None
    if isinstance(value, int) and value > GREATEST:
        raise _unexpected(given, kind)
    return value


def _unexpected(given: Given, kind: inspect.Type) -> ConfigError:
    shown = "" if given.option.is_secret else f", not {reprlib.repr(given.value)}"
    return ConfigError(
        f"{given.origin}: {given.option.name}: expected {_expected(kind)}{shown}"
    )


def _expected(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            expected = "true or false"
        case inspect.IntType(ge=least):
            expected = f"a whole number from {least} to {GREATEST}"
        case inspect.LiteralType(values=values):
            expected = " or ".join(sorted(map(repr, values)))
        case inspect.StructType(fields=fields):
            expected = f"a table with {', '.join(each.name for each in fields)}"
        case inspect.VarTupleType():
            expected = "a list of texts"
        case inspect.StrType(min_length=1):
            expected = "a text that is not empty"
        case _:
            expected = "a text"
    return expected


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        group, _, option = name.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[option] = value
    return tree


def _check_authentication(settings: Settings, given: Mapping[str, Given]) -> None:
    for name in _missing_for(settings):
        raise ConfigError(
            f"{given['auth_strategy'].origin}: auth_strategy: "
            f"{settings.auth_strategy!r} needs {name}, which is not set"
        )


def _missing_for(settings: Settings) -> Iterator[str]:
    """The options that the authentication strategy needs and does not have."""
    if settings.auth_strategy == "token_file" and not settings.token_file:
        yield "token_file"
    if settings.auth_strategy != "keystone":
        return
    login = ["username", "password", "project_name"]
    if settings.keystone_authtoken.application_credential_id:
        login = ["application_credential_secret"]
    for name in ("auth_url", *login):
        if not getattr(settings.keystone_authtoken, name):
            yield f"keystone_authtoken.{name}"


def _check_pairs(settings: Settings, given: Mapping[str, Given]) -> None:
    for small, great in NOT_GREATER:
        least, most = attrgetter(small, great)(settings)
        if least > most:
            origins = [given[name].origin for name in (small, great) if name in given]
            raise ConfigError(
                f"{' and '.join(dict.fromkeys(origins))}: {small} is {least}, expected "
                f"at most {great}, which is {most}"
            )
