"""Groups of options that may hold secrets, so that no value of theirs is ever shown."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Text = Annotated[str, Meta(min_length=1)]


class Secrets(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of options whose values are never shown, only whether they are set."""

    def __repr__(self) -> str:
        shown = (
            f"{name}={'...' if getattr(self, name) else 'unset'}"
            for name in self.__struct_fields__
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class SignedUrl(Secrets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``signed_url`` group.

    :ivar secret_key: signs pre-signed URLs; without one there are none.
    """

    secret_key: str | None = None


class Drivers(Secrets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``drivers`` group: URIs, empty for the embedded store in ``data_dir``.

    :ivar bus: where servers that share their stores signal to each other; empty is by
        the message store, where that can do it, and ``none`` is nowhere.
    """

    bus: str = ""
    message_store: str = ""
    management_store: str = ""


class Encryption(Secrets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``encryption`` group.

    :ivar keys: as ``ID:BASE64``; the first one encrypts.
    """

    keys: tuple[str, ...] = ()


class KeystoneAuthtoken(Secrets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``keystone_authtoken`` group: the identity service, and our login there.

    :ivar auth_url: its version 3, ``https://identity.example.org/v3``.
    :ivar www_authenticate_uri: what clients are told; empty is the same.
    :ivar token_cache_time: seconds that an answer about a token is used.
    :ivar timeout: seconds after which the identity service counts as away.
    :ivar max_connections: to it, and so tokens that it is asked about at a time.
    """

    auth_url: str = ""
    www_authenticate_uri: str = ""
    username: str = ""
    password: str = ""
    user_domain_name: Text = "Default"
    project_name: str = ""
    project_domain_name: Text = "Default"
    application_credential_id: str = ""
    application_credential_secret: str = ""
    token_cache_time: Annotated[int, Meta(ge=0)] = 300
    timeout: Annotated[int, Meta(ge=1)] = 10
    max_connections: Annotated[int, Meta(ge=1)] = 8


class Trustee(Secrets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``trustee`` group: whom users of ``trust+http(s)`` subscribers trust.

    Each option that is empty is that of ``keystone_authtoken``.
    """

    auth_url: str = ""
    username: str = ""
    password: str = ""
    user_domain_name: str = ""


class MailText(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mail that asks; what is empty is built in.

    :ivar topic: the subject.
    :ivar body: ``{0}`` is the queue, ``{1}`` the project, ``{2}`` the link.
    """

    topic: str = ""
    sender: str = ""
    body: str = ""


class Notification(Secrets, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``notification`` group.

    :ivar require_confirmation: whether only subscribers that agreed are told.
    :ivar history_time: seconds for which attempts can be looked at.
    :ivar allowed_networks: where webhooks may be beside the public Internet.
    :ivar smtp_mode: ``third_part`` gives mails to ``smtp_command``, ``self_local`` to
        the server ``smtp_host``.
    :ivar smtp_security: ``tls`` from the first byte, ``starttls``, or ``none``.
    :ivar sender: of mails whose subscription names none.
    :ivar public_url: under which clients reach the HTTP API; for links.
    :ivar public_websocket_url: the same for the WebSocket API.
    :ivar external_confirmation_url: a page that takes the place of our own.
    """

    require_confirmation: bool = False
    history_time: Annotated[int, Meta(ge=60)] = 86400
    public_url: str = ""
    public_websocket_url: str = ""
    external_confirmation_url: str = ""
    subscription_confirmation_email_template: MailText = field(default_factory=MailText)
    unsubscribe_confirmation_email_template: MailText = field(default_factory=MailText)
    allowed_networks: tuple[Text, ...] = ()
    smtp_mode: Literal["third_part", "self_local"] = "third_part"
    smtp_command: Text = "/usr/sbin/sendmail -t -oi"
    smtp_host: Text = "127.0.0.1"
    smtp_port: Annotated[int, Meta(ge=1, le=65535)] = 25
    smtp_security: Literal["tls", "starttls", "none"] = "starttls"
    smtp_user_name: str = ""
    smtp_user_password: str = ""
    sender: Text = "mqsvc@localhost"
