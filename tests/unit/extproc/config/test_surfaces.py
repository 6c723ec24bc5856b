from extproc.config import loads
from extproc.config.surfaces import Surface, surfaces

AUTH = "auth: {issuer: i, audiences: [a], jwksUri: 'https://issuer.example/keys'}\n"


def found(document: str, extproc: str = "unix:///run/x.sock", admin: str = "127.0.0.1:9090") -> tuple[Surface, ...]:
    return surfaces(loads(document or "{}", "test").config, extproc=extproc, admin=admin)


def test_by_default_only_the_clients_own_door_is_open_to_other_machines() -> None:
    requests, envoy, extproc, admin = found("")
    assert requests.exposed
    assert str(requests) == "requests (Envoy) at 0.0.0.0:8080: nothing: authentication is off"
    assert not envoy.exposed
    assert envoy.address == "unix:///var/run/infer-gateway/envoy-admin.sock"
    assert not extproc.exposed
    assert not admin.exposed
    assert "0600" in envoy.protection
    assert "0600" in extproc.protection
    assert "loopback" in admin.protection


def test_with_auth_on_nothing_is_exposed() -> None:
    assert [one.name for one in found(AUTH) if one.exposed] == []
    assert "bearer tokens" in found(AUTH)[0].protection


def test_what_is_not_on_loopback_is_exposed() -> None:
    for address in ("0.0.0.0:9002", "[::]:9002", "10.0.0.1:9002", "sidecar.local:9002"):
        _, _, extproc, admin = found(AUTH, extproc=address, admin=address)
        assert extproc.exposed
        assert admin.exposed
        assert "nothing" in admin.protection
    for address in ("[::1]:9002", "localhost:9002", "127.8.9.1:9002"):
        assert not any(one.exposed for one in found(AUTH, extproc=address, admin=address))


def test_an_ip6_listener() -> None:
    assert found("listener: {host: '::1', port: 80}")[0].address == "[::1]:80"
    assert not found("listener: {host: '::1', port: 80}")[0].exposed


def test_ext_proc_over_tls() -> None:
    def ext_proc(tls: str, address: str = "0.0.0.0:9002") -> Surface:
        return found(AUTH + f"transport: {{address: '0.0.0.0:9002', tls: {tls}}}", extproc=address)[2]

    assert ext_proc("").protection.endswith("no TLS")
    one = ext_proc("{selfSigned: true}")
    assert one.exposed
    assert one.protection.startswith("TLS; against clients, nothing")
    assert not ext_proc("{selfSigned: true}", "127.0.0.1:9002").exposed
    mutual = ext_proc("{selfSigned: true, clientCaFile: /tls/ca.crt}")
    assert not mutual.exposed
    assert "certificate" in mutual.protection


def test_the_listener_over_tls() -> None:
    tls = "listener: {tls: {certFile: /a, keyFile: /b%s}}"
    assert found(AUTH + tls % "")[0].protection == "bearer tokens; TLS"
    assert found(AUTH + tls % ", clientCaFile: /c")[0].protection == "bearer tokens; TLS with client certificates"
    assert found(tls % "")[0].exposed
    assert not found(tls % ", clientCaFile: /c")[0].exposed
