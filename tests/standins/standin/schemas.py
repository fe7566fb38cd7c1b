"""What each service demands of its configuration: kind of value by dotted path.

Read in the programs and in the files they are shipped with. influxdb and the containers of pages have no configuration,
and Redis checks its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import config as c

Schema = Mapping[str, c.Kind]

_LEVEL = c.one_of("error", "warn", "info", "verbose", "debug", "silly")
_STREAM_TYPE = re.compile(r"[a-z0-9-]+/[a-z0-9-]+")


def _streams(value: Any) -> list[dict[str, Any]] | None:
    """Streams and those below them, None when it is no list of streams."""
    if not isinstance(value, list):
        return None
    found: list[dict[str, Any]] = []
    for stream in value:
        below = _streams(stream.get("children") or []) if isinstance(stream, dict) else None
        if below is None:
            return None
        found += [stream, *below]
    return found


def _well_formed(stream: Mapping[str, Any]) -> bool:
    return (
        len(str(stream.get("id", ""))) >= 2
        and _STREAM_TYPE.fullmatch(str(stream.get("type", ""))) is not None
        and all(isinstance(stream.get(key, False), bool) for key in stream if key.startswith("is"))
    )


def _are_account_streams(value: Any) -> bool:
    streams = _streams(value)
    return streams is not None and all(
        _well_formed(stream) and not (stream.get("isUnique") and not stream.get("isIndexed")) for stream in streams
    )


def _are_other_streams(value: Any) -> bool:
    streams = _streams(value)
    return streams is not None and all(
        _well_formed(stream)
        and not any(stream.get(key) for key in ("isUnique", "isIndexed", "isRequiredInValidation"))
        and stream.get("isShown", True)
        and stream.get("isEditable", True)
        for stream in streams
    )


def _is_filter(value: Any) -> bool:
    methods = value.get("methods") if isinstance(value, dict) and len(value) == 1 else None
    return (
        isinstance(methods, dict)
        and methods.keys() == {"include", "exclude"}
        and all(c.TEXTS.accepts(names) for names in methods.values())
    )


_FILTER = c.Kind("'methods' with lists 'include' and 'exclude'", _is_filter)
_LOGS = {
    "logs.console.active": c.FLAG,
    "logs.console.level": _LEVEL,
    "logs.file.active": c.FLAG,
    "logs.file.path": c.PATH,
    "logs.file.level": _LEVEL,
}
_ROTATION = {"logs.file.rotation.isActive": c.FLAG, "logs.file.rotation.days": c.WHOLE}
_FILES = {"userFiles.path": c.PATH, "eventFiles.attachmentsDirPath": c.PATH, "eventFiles.previewsDirPath": c.PATH}
_DATABASE = {"database.host": c.TEXT, "database.port": c.PORT, "database.name": c.TEXT}
_SERIES = {"influxdb.host": c.TEXT, "influxdb.port": c.PORT}
# What several services read; each has a default of its own, so that one that lacks it disagrees with the others.
_SHARED = {
    "backwardCompatibility.systemStreams.prefix.isActive": c.FLAG,
    "backwardCompatibility.tags.isActive": c.FLAG,
    "backwardCompatibility.tags.rootStreamId": c.TEXT,
    "backwardCompatibility.tags.streamIdPrefix": c.TEXT,
    "integrity.isActive.attachments": c.FLAG,
    "integrity.isActive.events": c.FLAG,
    "integrity.isActive.accesses": c.FLAG,
    "integrity.algorithm": c.one_of("sha256", "sha512", "sha1", "md5"),
    "custom.systemStreams.account": c.Kind(
        "streams, each with an 'id' of 2 characters or more and a 'type' class/format; a unique one is indexed",
        _are_account_streams,
    ),
    "custom.systemStreams.other": c.Kind(
        "streams, each with an 'id' of 2 characters or more and a 'type' class/format; shown, editable, neither unique,"
        " nor indexed, nor required",
        _are_other_streams,
    ),
}

CORE: Schema = {
    **_LOGS,
    **_ROTATION,
    **_FILES,
    **_DATABASE,
    **_SERIES,
    **_SHARED,
    "domain": c.TEXT,
    "serviceInfoUrl": c.URL,
    "http.ip": c.TEXT,
    "http.port": c.PORT,
    "auth.adminAccessKey": c.SECRET,
    "auth.filesReadTokenSecret": c.SECRET,
    "auth.ssoCookieSignSecret": c.SECRET,
    "auth.ssoCookieDomain": c.TEXT,
    "auth.sessionMaxAge": c.WHOLE,
    "auth.trustedApps": c.TEXT,
    "auth.passwordResetRequestMaxAge": c.WHOLE,
    "auth.passwordResetPageURL": c.URL,
    "auth.passwordComplexityMinCharCategories": c.optional(c.WHOLE),
    "auth.passwordComplexityMinLength": c.optional(c.WHOLE),
    "auth.passwordAgeMaxDays": c.optional(c.WHOLE),
    "auth.passwordAgeMinDays": c.optional(c.WHOLE),
    "auth.passwordPreventReuseHistoryLength": c.optional(c.WHOLE),
    "services.register.url": c.URL,
    "services.register.key": c.SECRET,
    "services.email.enabled": c.optional(
        c.Kind("true or false, or a mapping of such", lambda value: c.FLAG.accepts(value) or c.FLAGS.accepts(value))
    ),
    "services.email.method": c.one_of("microservice", "mandrill"),
    "services.email.url": c.URL,
    "services.email.key": c.TEXT,
    "services.email.welcomeTemplate": c.TEXT,
    "services.email.resetPasswordTemplate": c.TEXT,
    "customExtensions.defaultFolder": c.PATH,
    "custom.dataStores": c.LIST,
    # Without these the real program takes itself for a platform of one machine without DNS, its default.
    "dnsLess.isActive": c.OFF,
    "openSource.isActive": c.OFF,
    "user-account.delete": c.Kind(
        "a list of adminToken and personalToken",
        lambda value: c.TEXTS.accepts(value) and set(value) <= {"adminToken", "personalToken"},
    ),
    "audit.storage.filter": _FILTER,
    "audit.syslog.filter": _FILTER,
    "audit.syslog.options.path": c.PATH,
    "audit.syslog.formats.default.template": c.TEXT,
    "audit.syslog.formats.default.level": c.one_of("notice", "warning", "error", "critical", "alert", "emerg"),
    "updates.ignoreProtectedFields": c.FLAG,
    "versioning.forceKeepHistory": c.FLAG,
    "versioning.deletionMode": c.one_of("keep-nothing", "keep-authors", "keep-everything"),
    "webhooks.minIntervalMs": c.WHOLE,
    "webhooks.maxRetries": c.WHOLE,
    "webhooks.runsSize": c.WHOLE,
    "uploads.maxSizeMb": c.NUMBER,
    "accessTracking.isActive": c.FLAG,
    "trace.enable": c.FLAG,
}
HFS: Schema = {
    **_LOGS,
    **_ROTATION,
    **_FILES,
    **_SERIES,
    **_SHARED,
    "http.ip": c.TEXT,
    "http.port": c.optional(c.PORT),
    "database.host": c.TEXT,
    "database.port": c.optional(c.PORT),
    "database.name": c.optional(c.TEXT),
    "metadataUpdater.host": c.TEXT,
    "metadataUpdater.port": c.PORT,
    "nats.uri": c.TEXT,
    "services.register.url": c.URL,
    "serviceInfoUrl": c.URL,
    "uploads.maxSizeMb": c.NUMBER,
    "trace.enable": c.FLAG,
}
# The program beside hfs that keeps events up to date with their series.
METADATA: Schema = {
    **_DATABASE,
    **_SHARED,
    "metadataUpdater.host": c.TEXT,
    "metadataUpdater.port": c.PORT,
    "userFiles.path": c.PATH,
    "serviceInfoUrl": c.URL,
    "nats.uri": c.TEXT,
}
PREVIEW: Schema = {
    **_LOGS,
    **_ROTATION,
    **_FILES,
    **_DATABASE,
    **_SHARED,
    "http.ip": c.TEXT,
    "http.port": c.PORT,
    "auth.sessionMaxAge": c.WHOLE,
    "customExtensions.defaultFolder": c.PATH,
    "serviceInfoUrl": c.URL,
    "nats.uri": c.TEXT,
}
WEBHOOKS: Schema = {
    **_LOGS,
    **_ROTATION,
    **_FILES,
    **_DATABASE,
    **_SHARED,
    "serviceInfoUrl": c.URL,
    "nats.uri": c.TEXT,
    "trace.enable": c.FLAG,
}

MFA: Schema = {
    "http.ip": c.TEXT,
    "http.port": c.PORT,
    "core.url": c.URL,
    "sms.mode": c.one_of("single", "challenge-verify"),
    "sms.endpoints": c.MAP,
    "sessions.ttlSeconds": c.WHOLE,
    "logs.console.active": c.FLAG,
    "logs.file.active": c.FLAG,
}
# By sms.mode; the program checks this before it loads the defaults that it has for them.
MFA_ENDPOINTS = {"single": ("single",), "challenge-verify": ("challenge", "verify")}


def mfa(config: c.Config) -> Schema:
    """What mfa demands with the mode that its configuration names."""
    names = MFA_ENDPOINTS.get(str(c.lookup(config, "sms.mode")), ())
    endpoint = {"url": c.STRING, "method": c.one_of("POST", "GET"), "body": c.STRING, "headers": c.MAP}
    return {**MFA, **{f"sms.endpoints.{name}.{key}": kind for name in names for key, kind in endpoint.items()}}


MAIL: Schema = {
    "logs.console.active": c.FLAG,
    "logs.file.active": c.FLAG,
    "logs.file.path": c.PATH,
    "email.message.from.name": c.TEXT,
    "email.message.from.address": c.TEXT,
    "email.preview": c.OFF,  # it would open a browser
    "email.send": c.FLAG,
    "http.ip": c.TEXT,
    "http.port": c.PORT,
    "http.auth": c.SECRET,
    "smtp.host": c.TEXT,
    "smtp.port": c.PORT,
    "smtp.secure": c.optional(c.FLAG),
    "smtp.requireTLS": c.optional(c.FLAG),
    "smtp.auth": c.optional(
        c.Kind(
            "a mapping with texts 'user' and 'pass'",
            lambda value: isinstance(value, dict) and all(c.TEXT.accepts(value.get(key)) for key in ("user", "pass")),
        )
    ),
    "sendmail.active": c.FLAG,
    "templates.root": c.PATH,
    "templates.defaultLang": c.TEXT,
}

MONGODB: Schema = {
    "net.bindIp": c.TEXT,
    "storage.dbPath": c.PATH,
    "systemLog.destination": c.one_of("file", "syslog"),
    "systemLog.path": c.PATH,
    "systemLog.logAppend": c.optional(c.FLAG),
}
# mongod starts with no other.
MONGODB_SECTIONS = {
    *("net", "storage", "systemLog", "security", "processManagement", "operationProfiling", "replication"),
    *("setParameter", "sharding", "cloud"),
}


def _is_caa(value: Any) -> bool:
    entries = value if isinstance(value, list) else [value]
    return all(isinstance(entry, dict) and c.TEXT.accepts(entry.get("issuer")) for entry in entries)


def _are_name_servers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, dict) and c.TEXT.accepts(entry.get("name")) and c.ADDRESS.accepts(entry.get("ip"))
        for entry in value
    )


def _are_keys(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(entry, dict) and c.TEXTS.accepts(entry.get("roles")) for entry in value.values()
    )


def _is_server(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and c.URL.accepts(value.get("base_url"))
        # A name server has no key to cores.
        and (value.get("authorization") is None or c.SECRET.accepts(value["authorization"]))
    )


def _are_servers(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(cores, list) and all(map(_is_server, cores)) for cores in value.values()
    )


REGISTRY: Schema = {
    "domain": c.TEXT,
    "service.serial": c.TEXT,
    "service.name": c.TEXT,
    "service.support": c.TEXT,
    "service.terms": c.TEXT,
    "service.register": c.URL,
    "service.access": c.URL,
    "service.api": c.URL,
    "service.home": c.URL,
    "service.eventTypes": c.URL,
    "service.assets": c.optional(c.MAP),
    "server.port": c.PORT,
    "access.defaultAuthUrl": c.optional(c.URL),
    "access.trustedAuthUrls": c.optional(c.TEXTS),
    "auth.coreSystemKey": c.optional(c.SECRET),
    "auth.authorizedKeys": c.Kind("a mapping, with a list 'roles' for each key", _are_keys),
    "dns.port": c.PORT,
    "dns.ip": c.ADDRESS,
    "dns.name": c.TEXT,
    "dns.domain": c.TEXT,
    "dns.domains": c.TEXTS,
    "dns.defaultTTL": c.optional(c.WHOLE),
    "dns.staticDataInDomain": c.MAP,
    "dns.customEntries": c.optional(c.MAP),
    "dns.mail": c.optional(c.LIST),
    "dns.domain_A": c.ADDRESS,
    "dns.certificateAuthorityAuthorization": c.Kind("a mapping with an issuer, or a list of such", _is_caa),
    "dns.nameserver": c.Kind("a list of mappings with 'name' and 'ip'", _are_name_servers),
    "dns.rootTXT.description": c.LIST,
    "net.hostings": c.optional(c.MAP),
    "net.aahostings": c.optional(c.MAP),
    "net.aaservers": c.optional(
        c.Kind(
            "lists of cores by hosting, each with 'base_url' and, to create users there, a key 'authorization'",
            _are_servers,
        )
    ),
    "net.providers": c.optional(c.MAP),
    "redis.host": c.TEXT,
    "redis.port": c.PORT,
    "redis.password": c.optional(c.TEXT),
    "routes.disableGetUsernameByEmail": c.optional(c.FLAG),
    "reporting.templateVersion": c.TEXT,
}
