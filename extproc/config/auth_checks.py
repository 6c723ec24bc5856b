"""Errors and doubts between the keys of `auth`."""

from collections.abc import Iterator, Sequence

from extproc.config.decode import Decoded, known_keys
from extproc.config.model import GatewayConfig
from extproc.config.problems import Path, Problem, nearest
from extproc.config.sections.authentication import AuthConfig, IssuerConfig, is_exposed

AUTH_IS_OFF = "authentication is off: every request is let in"

#: What turns authentication on.
_SOURCES = ("jwksUri", "oidcIssuer", "issuers", "apiKeys")


def warnings(config: GatewayConfig) -> Iterator[Problem]:
    """Warnings: allowed settings that the operator should know of. Paths as in `problems`."""
    auth = config.auth
    if auth is None or config.auth_policy() is None:
        yield Problem(AUTH_IS_OFF, ("auth",))
        return
    for path, issuer in _issuers(auth):
        if is_exposed(issuer.jwks_uri or issuer.oidc_issuer or ""):
            reason = "plain http: whoever is on the way can give the gateway keys of their own (use https)"
            yield Problem(reason, (*path, "jwksUri" if issuer.jwks_uri else "oidcIssuer"))
        if issuer.issuer is None and issuer.oidc_issuer is None:
            yield Problem("no issuer is given: a token may come from any issuer that uses these keys", path)
        if not issuer.audiences:
            yield Problem("no audiences are given: tokens made for other services are let in, too", path)


def _issuers(auth: AuthConfig) -> list[tuple[Path, IssuerConfig]]:
    if auth.issuers is None:
        return [(("auth",), auth)] if auth.given() else []
    return [(("auth", "issuers", index), issuer) for index, issuer in enumerate(auth.issuers)]


def problems(auth: AuthConfig, decoded: Decoded) -> Iterator[Problem]:
    """Paths are those of the configuration, as in `checks`."""
    if auth.issuers is not None:
        for name in ("issuer", "audiences", "jwks_uri", "oidc_issuer"):
            if getattr(auth, name):
                reason = "cannot be set beside issuers: move it into an entry of that list"
                yield Problem(reason, ("auth", _key(name)), at_key=True)
        if decoded.sound(("auth", "issuers")):
            yield from _issuer_list(auth.issuers, decoded)
        return
    yield from _one_source(auth, ("auth",), decoded)
    if not auth.given() and auth.api_keys is None and not _misspelt(decoded):
        given = [_key(name) for name, value in auth if name in auth.model_fields_set and value is not None]
        if given:
            reason = (
                f"is missing: auth has {', '.join(given)}, yet no token would be checked;"
                " set jwksUri, oidcIssuer or apiKeys, or leave out `auth` to run without authentication"
            )
            yield Problem(reason, ("auth", "jwksUri"))


def _key(name: str) -> str:
    return str(AuthConfig.model_fields[name].alias)


def _misspelt(decoded: Decoded) -> bool:
    """Whether what turns authentication on is there, and wrong."""
    wrong = [*(problem.path for problem in decoded.problems), *decoded.unusable]
    names = [str(path[1]) for path in wrong if path[0] == "auth" and len(path) > 1]
    return any(nearest(name, known_keys(("auth",))) in _SOURCES for name in names)


def _issuer_list(issuers: Sequence[IssuerConfig], decoded: Decoded) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, one in enumerate(issuers):
        path: Path = ("auth", "issuers", index)
        if not one.given():
            yield Problem("is missing (or oidcIssuer)", (*path, "jwksUri"))
        yield from _one_source(one, path, decoded)
        name = one.issuer or one.oidc_issuer
        if name is None:
            if len(issuers) > 1:
                yield Problem("is missing: one of several issuers is found by its name", (*path, "issuer"))
        elif seen.setdefault(name, index) != index:
            key = "issuer" if one.issuer is not None else "oidcIssuer"
            yield Problem(f"is the issuer of issuers[{seen[name]}] already", (*path, key))


def _one_source(one: IssuerConfig, path: Path, decoded: Decoded) -> Iterator[Problem]:
    if one.oidc_issuer is None or not decoded.sound((*path, "oidcIssuer")):
        return
    for key, value in (("jwksUri", one.jwks_uri), ("issuer", one.issuer)):
        if value is not None:
            reason = "cannot be set beside oidcIssuer: its discovery document says so"
            yield Problem(reason, (*path, key), hint="leave one of the two out", at_key=True)
