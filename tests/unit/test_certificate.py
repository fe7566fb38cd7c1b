"""Which certificates a platform may have, and what becomes of them."""

from __future__ import annotations

import datetime
import itertools
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from plugins.modules import development_certificate
from pryv_platform.certificate import examination, single, source
from pryv_platform.checks import certificate as certificate_check
from pryv_platform.inventory import Controller, Inventory, Unreadable
from pryv_platform.problems import Problem

DOMAIN = "pryv.example"
NOW = datetime.datetime.now(datetime.timezone.utc)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.locked(serialization.NoEncryption())

    def locked(self, encryption: serialization.KeySerializationEncryption) -> str:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption
        ).decode()


def issue(
    name: str,
    issuer: Issued | None = None,
    *,
    names: tuple[str, ...] = (),
    days: int = 90,
    starts: int = -1,
    key: Key | None = None,
    extensions: tuple[x509.ExtensionType, ...] = (),
    basic: x509.BasicConstraints | None = None,
    serial: int | None = None,
) -> Issued:
    """Make a certificate; without an issuer it signs itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=starts))
        .not_valid_after(NOW + datetime.timedelta(days=days, hours=1))
        .add_extension(basic or x509.BasicConstraints(ca=not names, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return Issued(builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()), key)


ROOT = issue("Root", days=3650)
OUTER = issue("Outer", ROOT, days=1000)
INNER = issue("Inner", OUTER, days=1000)
BOTH = (DOMAIN, f"*.{DOMAIN}")


def leaf(**options: Any) -> Issued:
    """The platform's certificate, with whatever is to be wrong with it."""
    return issue(DOMAIN, **{"issuer": INNER, "names": BOTH, **options})


GOOD = leaf()


@dataclass
class Store:
    """What the controller's system trusts."""

    pem: str = ""


@pytest.fixture
def trusted() -> Store:
    return Store(ROOT.pem)


@pytest.fixture
def look_up(tmp_path: Path, trusted: Store) -> Callable[..., dict[str, Any]]:
    """Read the certificate as the role does, of an inventory in a folder."""

    def call(**options: Any) -> dict[str, Any]:
        given = {"environment": "production", "source": "pem", "ca_directory": "ca", **options}
        controller = Controller(lambda path: (tmp_path / path).read_bytes(), trusted.pem.encode())
        material = source.material(source.Settings(DOMAIN, **given), controller)
        return {**vars(material), "problems": [told(problem) for problem in material.problems]}

    return call


def told(problem: Problem) -> str:
    """A problem as an operator reads it."""
    assert problem["severity"] == "error"
    return f"{problem['where']} {problem['problem']} -> {problem['remedy']}"


def examine(given: Issued, *others: Issued, key: Issued | None = None) -> examination.Material:
    """Examine a certificate with what comes along with it."""
    return examination.examine(
        DOMAIN,
        [member.certificate for member in (given, *others)],
        (key or given).key,
        [ROOT.certificate],
        NOW,
        14,
    )


def only_problem(material: examination.Material) -> str:
    """The one thing that is wrong; nothing to serve is given out."""
    assert (material.fullchain, material.private_key) == ("", "")
    (problem,) = material.problems
    return told(problem)


@pytest.mark.parametrize("order", list(itertools.permutations([GOOD, INNER, OUTER, ROOT])))
def test_a_chain_in_any_order_is_put_in_order_and_its_root_dropped(order: tuple[Issued, ...]) -> None:
    material = examine(*order, key=GOOD)
    assert material.problems == []
    assert material.fullchain == GOOD.pem + INNER.pem + OUTER.pem
    assert material.ca == ROOT.pem


def test_the_root_is_found_among_those_that_the_system_trusts() -> None:
    assert examine(GOOD, INNER, OUTER).ca == ROOT.pem


def test_certificates_that_do_not_belong_are_left_out() -> None:
    assert examine(GOOD, issue("Stranger"), INNER, OUTER, INNER).fullchain == GOOD.pem + INNER.pem + OUTER.pem


@dataclass(frozen=True)
class Case:
    """What an operator gives, and whether clients that trust the roots accept what is made of it."""

    bundle: tuple[Issued, ...]
    roots: tuple[Issued, ...] = ()
    said: str = ""  # why it is refused; empty where it is accepted
    served: tuple[Issued, ...] = ()
    ca: Issued | None = None


NONE_BELOW = x509.BasicConstraints(ca=True, path_length=0)


def renewed() -> dict[str, Case]:
    """Chains as authorities have them while their root or their intermediate is replaced, and what expires of them."""
    old, cross_key = issue("Old root", days=-10, starts=-3000), ec.generate_private_key(ec.SECP256R1())
    new = issue("New root", key=cross_key, days=3650)
    cross = issue("New root", old, key=cross_key, days=1000)
    stale = issue("New root", key=cross_key, days=-1, starts=-3000)
    inter_key = ec.generate_private_key(ec.SECP256R1())
    inter = issue("Issuing", new, key=inter_key)
    stale_inter = issue("Issuing", new, key=inter_key, days=-1, starts=-90)
    own, sub = leaf(issuer=inter), issue("Sub", old)
    stale_own = leaf(issuer=inter, key=own.key, days=-1, starts=-90)
    self_signed = leaf(issuer=None, key=own.key)

    def good(*bundle: Issued, roots: tuple[Issued, ...] = ()) -> Case:
        return Case(bundle, roots, served=(own, inter), ca=new)

    return {
        "cross-signed, then its own root": good(own, inter, cross, new),
        "its own root, then cross-signed": good(own, inter, new, cross),
        "cross-signed and the expired root": good(own, inter, cross, old, roots=(new,)),
        "cross-signed only": good(own, inter, cross, roots=(new,)),
        "with the expired root alone": Case((own, inter, cross, old), said="Old root is a root that is valid from"),
        "the chain as roots": good(own, roots=(inter, new)),
        "all twice": good(own, own, inter, inter, new, new, roots=(new,)),
        "stale twins": good(stale_own, self_signed, stale_inter, stale, own, inter, new, GOOD),
        "stale twins after": good(GOOD, new, inter, own, stale, stale_inter, self_signed, stale_own),
        "stale twins only": Case((stale_own, inter, new), said="expired on"),
        "root expired": Case((leaf(issuer=sub), sub, old), said="Old root is a root that is valid from"),
    }


def flawed() -> dict[str, Case]:
    """Chains with an authority that may not do what it did, and with some that may."""
    new, found = issue("New root", days=3650), {}
    no_authority = x509.BasicConstraints(ca=False, path_length=None)
    other = x509.NameConstraints(permitted_subtrees=[x509.DNSName("other.example")], excluded_subtrees=None)
    but = x509.NameConstraints(permitted_subtrees=None, excluded_subtrees=[x509.DNSName(DOMAIN)])
    same = x509.NameConstraints(permitted_subtrees=[x509.DNSName(DOMAIN)], excluded_subtrees=None)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    clients = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    flaws: list[tuple[str, dict[str, Any], str]] = [
        ("no authority", {"basic": no_authority}, "Sub is no authority's"),
        ("deep enough", {"basic": NONE_BELOW}, ""),
        ("names of others", {"extensions": (other,)}, "Sub may not vouch for"),
        ("names but ours", {"extensions": (but,)}, "Sub may not vouch for"),
        ("our names", {"extensions": (same,)}, ""),
        ("does not sign", {"extensions": (usage,)}, "Sub may not sign certificates"),
        ("signs clients only", {"extensions": (clients,)}, "Sub may not sign certificates of servers"),
    ]
    for name, options, said in flaws:
        sub = issue("Sub", new, **options)
        mine = leaf(issuer=sub)
        found[name] = Case((mine, sub), (new,), said, (mine, sub), new)
    upper = issue("Sub", new, basic=NONE_BELOW)
    lower = issue("Lower", upper)
    found["too deep"] = Case(
        (leaf(issuer=lower), lower, upper), (new,), "Sub allows at most 0 authorities below itself"
    )
    return found


def unfinished() -> dict[str, Case]:
    """Chains whose root may not vouch for what is below it, and chains without an end."""
    found = {}
    shallow = issue("Shallow root", basic=NONE_BELOW)
    found["root too shallow"] = Case((leaf(issuer=issue("Sub", shallow)), shallow), said="Sub is missing")
    below = issue("Sub", shallow)
    found["root too shallow, complete"] = Case(
        (leaf(issuer=below), below, shallow), said="Shallow root allows at most 0 authorities below itself"
    )
    first, second = issue("First"), issue("Second")
    circle = [issue("First", second, key=first.key), issue("Second", first, key=second.key)]
    found["a circle"] = Case((leaf(issuer=first), *circle), said="is missing")
    mine = leaf(issuer=first)
    found["a circle with a root"] = Case((mine, *circle, first), served=(mine,), ca=first)
    return found


CASES = renewed() | flawed() | unfinished()


def client_accepts(chain: str, key: str, root: str, folder: Path) -> bool:
    """Whether OpenSSL's client, which trusts one root, accepts a chain for the domain and a name under it."""
    for name, text in (("platform.pem", chain), ("platform.key", key), ("ca.pem", root)):
        (folder / name).write_text(text)
    try:
        for name in (DOMAIN, f"reg.{DOMAIN}"):
            handshake(folder, name, strict=False)
    except ssl.SSLCertVerificationError:
        return False
    return True


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_is_accepted_is_what_clients_accept(case: Case, order: int, tmp_path: Path) -> None:
    own = case.served[0] if case.served else case.bundle[0]
    certificates = [given.certificate for given in case.bundle[::order]]
    trusted = [given.certificate for given in case.roots[::order]]
    material = examination.examine(DOMAIN, certificates, own.key, trusted, NOW, 14)
    if not case.said:
        assert material.problems == []
        assert material.fullchain == "".join(given.pem for given in case.served)
        assert case.ca is not None
        assert material.ca == case.ca.pem
        assert client_accepts(material.fullchain, material.private_key, material.ca, tmp_path)
        return
    assert case.said in only_problem(material)
    # Nor would a client, whatever of it were served.
    roots = [given for given in (*case.bundle, *case.roots) if single.is_self_signed(given.certificate)]
    for root in roots:
        served = own.pem + "".join(given.pem for given in case.bundle if given is not own)
        assert not client_accepts(served, own.key_pem, root.pem, tmp_path)


def test_no_warning_of_a_library_is_shown(
    look_up: Callable[..., Any], trusted: Store, recwarn: pytest.WarningsRecorder, tmp_path: Path
) -> None:
    # The library makes none with the serial number 0, which some system's store has.
    content = issue("Zero", serial=1).certificate.public_bytes(serialization.Encoding.DER)
    one = bytes.fromhex("a003020102020101")
    assert content.count(one) == 1
    store = ssl.DER_cert_to_PEM_cert(content.replace(one, one[:-1] + b"\0"))
    with pytest.warns(UserWarning, match="serial number"):
        x509.load_pem_x509_certificate(store.encode())
    recwarn.clear()
    trusted.pem = ""
    (tmp_path / "root.pem").write_text(store + ROOT.pem)
    material = look_up(
        bundle=GOOD.pem + INNER.pem + OUTER.pem, private_key=GOOD.key_pem, root_file=str(tmp_path / "root.pem")
    )
    assert (material["problems"], material["ca"]) == ([], ROOT.pem)
    assert not recwarn.list


def test_a_missing_intermediate_is_named_with_where_it_is() -> None:
    address = x509.AuthorityInformationAccess(
        [
            x509.AccessDescription(
                AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier("http://ca.example/inner.der")
            )
        ]
    )
    problem = only_problem(examine(leaf(extensions=(address,)), OUTER, ROOT))
    assert "CN=Inner is missing" in problem
    assert "http://ca.example/inner.der" in problem


def test_an_authority_of_ones_own_is_trusted_by_its_root(look_up: Callable[..., Any], tmp_path: Path) -> None:
    own = issue("Own root", days=3650)
    certificate = leaf(issuer=own)
    given = {"bundle": certificate.pem, "private_key": certificate.key_pem}
    assert "CN=Own root is missing" in look_up(**given)["problems"][0]
    assert look_up(**{**given, "bundle": certificate.pem + own.pem})["ca"] == own.pem
    (tmp_path / "root.pem").write_text(own.pem)
    assert look_up(**given, root_file="root.pem")["ca"] == own.pem


def test_the_root_is_told_without_the_key(look_up: Callable[..., Any]) -> None:
    own = issue("Own root", days=3650)
    material = look_up(bundle=own.pem + leaf(issuer=own).pem, private_key_file="locked.pem")
    assert material["problems"]
    assert (material["ca"], material["fullchain"], material["private_key"]) == (own.pem, "", "")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ((DOMAIN,), f"and not for *.{DOMAIN}"),
        ((f"*.{DOMAIN}",), f"and not for {DOMAIN}"),
        (("other.example", "*.other.example"), f"not for *.{DOMAIN} and {DOMAIN}"),
    ],
)
def test_both_names_must_be_covered(names: tuple[str, ...], missing: str) -> None:
    assert missing in only_problem(examine(leaf(names=names), INNER, OUTER))


def test_names_are_compared_as_dns_does() -> None:
    assert examine(leaf(names=("PRYV.example", "*.Pryv.Example")), INNER, OUTER).problems == []


def test_a_foreign_key_is_refused() -> None:
    assert "does not belong to the private key" in only_problem(examine(GOOD, INNER, OUTER, key=issue("other")))


@pytest.mark.parametrize(
    ("dates", "problem"),
    [
        ({"days": -1, "starts": -90}, "expired on"),
        ({"days": 13}, "in 13 days, fewer than the 14"),
        ({"days": 90, "starts": 1}, "valid from"),
    ],
)
def test_a_certificate_out_of_its_time_is_refused(dates: dict[str, int], problem: str) -> None:
    assert problem in only_problem(examine(leaf(**dates), INNER, OUTER))


def test_a_certificate_with_days_enough_is_taken() -> None:
    assert examine(leaf(days=14), INNER, OUTER).problems == []


def test_an_expired_intermediate_is_refused() -> None:
    old = issue("Old", ROOT, days=-1, starts=-90)
    assert "CN=Old expired" in only_problem(examine(leaf(issuer=old), old))


@pytest.mark.parametrize(
    ("key", "weakness"),
    [
        (ec.generate_private_key(ec.SECP192R1()), "secp192r1"),
        (ec.generate_private_key(ec.SECP256K1()), "secp256k1"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
    ],
)
def test_a_key_that_browsers_refuse_is_refused(key: Key, weakness: str) -> None:
    assert weakness in only_problem(examine(leaf(key=key), INNER, OUTER))


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
def test_a_strong_key_is_taken(key: Key) -> None:
    material = examine(leaf(key=key), INNER, OUTER)
    assert material.problems == []
    assert serialization.load_pem_private_key(material.private_key.encode(), None).public_key() == key.public_key()


def test_a_short_key_and_a_signature_that_can_be_forged_are_refused() -> None:
    # The library makes no such things any more, so the certificate is one that openssl made.
    weak = x509.load_pem_x509_certificate((Path(__file__).parent / "weak.pem").read_bytes())
    problems = [told(problem) for problem in single.weaknesses(weak, NOW, 14)]
    assert ["RSA key of 1024 bits" in problems[0], "signed with sha1" in problems[1], len(problems)] == [True, True, 2]


def test_a_self_signed_certificate_is_refused() -> None:
    assert "is self-signed" in only_problem(examine(issue(DOMAIN, names=BOTH)))


def test_a_certificate_that_is_not_for_servers_is_refused() -> None:
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    assert "serverAuth" in only_problem(examine(leaf(extensions=(usage,)), INNER, OUTER))


def test_all_problems_are_told_at_once() -> None:
    given = leaf(names=(DOMAIN,), days=3, key=ec.generate_private_key(ec.SECP192R1()))
    assert len(examine(given, key=issue("other")).problems) == 5  # key, names, chain, curve, days


def test_variables_and_files_give_the_same(look_up: Callable[..., Any], tmp_path: Path) -> None:
    bundle = GOOD.pem + INNER.pem + OUTER.pem
    (tmp_path / "bundle.pem").write_text(bundle)
    (tmp_path / "key.pem").write_text(GOOD.key_pem)
    inline = look_up(bundle=bundle, private_key=GOOD.key_pem)
    assert inline["problems"] == []
    assert inline["fullchain"] == bundle
    assert look_up(bundle_file="bundle.pem", private_key_file=str(tmp_path / "key.pem")) == inline


def test_what_is_not_given_or_cannot_be_read_is_named(look_up: Callable[..., Any]) -> None:
    problems = "\n".join(look_up(bundle="nonsense")["problems"])
    assert "certificate_bundle has no certificate" in problems
    assert "certificate_private_key and certificate_private_key_file are both empty" in problems
    problems = "\n".join(look_up(bundle="x", bundle_file="y", private_key_file="missing.key")["problems"])
    assert "certificate_bundle and certificate_bundle_file are both set" in problems
    assert "certificate_private_key_file missing.key cannot be read" in problems


def test_a_locked_key_is_refused_with_its_remedy(look_up: Callable[..., Any]) -> None:
    locked = GOOD.locked(serialization.BestAvailableEncryption(b"passphrase"))
    (problem,) = look_up(bundle=GOOD.pem + INNER.pem + OUTER.pem, private_key=locked)["problems"]
    assert "openssl pkey" in problem


def test_pkcs12_gives_the_same_as_pem(look_up: Callable[..., Any], tmp_path: Path) -> None:
    chain, passphrase = [OUTER.certificate, INNER.certificate], "open sesame"
    content = pkcs12.serialize_key_and_certificates(
        b"platform", GOOD.key, GOOD.certificate, chain, serialization.BestAvailableEncryption(passphrase.encode())
    )
    (tmp_path / "platform.p12").write_bytes(content)
    given = {"source": "pkcs12", "pkcs12_file": "platform.p12"}
    assert look_up(**given, pkcs12_passphrase=passphrase) == look_up(
        bundle=GOOD.pem + INNER.pem + OUTER.pem, private_key=GOOD.key_pem
    )
    (problem,) = look_up(**given, pkcs12_passphrase=passphrase.upper())["problems"]
    assert "does not open" in problem
    assert passphrase.upper() not in problem


def test_pkcs12_without_a_key_is_refused(look_up: Callable[..., Any], tmp_path: Path) -> None:
    content = pkcs12.serialize_key_and_certificates(
        None, None, None, [GOOD.certificate, INNER.certificate, OUTER.certificate], serialization.NoEncryption()
    )
    (tmp_path / "platform.p12").write_bytes(content)
    assert "lacks" in look_up(source="pkcs12", pkcs12_file="platform.p12")["problems"][0]


def test_development_is_refused_in_production(look_up: Callable[..., Any]) -> None:
    (problem,) = look_up(source="development")["problems"]
    assert "is development, and pryv_environment is production" in problem


def make(folder: Path, check: bool = False, **options: Any) -> list[str]:
    """Run the module's work."""
    parameters = {"directory": str(folder), "domain": DOMAIN, "days": 90, "renew_days": 30, **options}
    return development_certificate.make(parameters, check)


def test_development_makes_an_authority_once_and_renews_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    assert make(folder, check=True) == ["ca", "platform"]
    assert not folder.exists()
    assert make(folder) == ["ca", "platform"]
    assert [
        folder.stat().st_mode & 0o777,
        *((folder / f"{n}.key").stat().st_mode & 0o777 for n in ("ca", "platform")),
    ] == [
        0o700,
        0o600,
        0o600,
    ]
    authority = (folder / "ca.pem").read_bytes()
    assert make(folder) == []
    assert make(folder, renew_days=90, check=True) == ["platform"]
    assert make(folder, renew_days=90) == ["platform"]
    assert (folder / "ca.pem").read_bytes() == authority


def test_development_mends_a_pair_that_a_killed_run_left(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "platform.key").write_bytes((tmp_path / "ca.key").read_bytes())
    assert make(tmp_path) == ["platform"]


def test_development_refuses_the_authority_of_another_domain(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(development_certificate.CertificateError, match="another domain"):
        make(tmp_path, domain="other.example")


def test_hosts_get_what_development_made(look_up: Callable[..., Any], tmp_path: Path) -> None:
    given = {"source": "development", "environment": "development"}
    assert "first run" in look_up(**given)["private_key"]
    assert look_up(**given)["ca"] == ""
    make(tmp_path / "ca")
    material = look_up(**given)
    assert material["problems"] == []
    assert material["fullchain"] == (tmp_path / "ca/platform.pem").read_text()
    assert material["private_key"] == (tmp_path / "ca/platform.key").read_text()
    assert material["ca"] == (tmp_path / "ca/ca.pem").read_text()


def handshake(folder: Path, name: str, *, strict: bool = True) -> None:
    """Let a client, as strict as Python's newest, talk to a server with the folder's certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "platform.pem", folder / "platform.key")
    client = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    client.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    if strict:
        client.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_strict_client_trusts_it_for_the_domain(tmp_path: Path) -> None:
    make(tmp_path)
    handshake(tmp_path, DOMAIN)
    handshake(tmp_path, f"reg.{DOMAIN}")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, "reg.other.example")


def test_the_authority_is_worth_nothing_for_another_domain(tmp_path: Path) -> None:
    make(tmp_path)
    development_certificate.make_platform(tmp_path, "bank.example", 90)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(tmp_path, "bank.example")


def test_a_certificate_is_checked_with_the_inventory() -> None:
    """Variables that are not set are what the role documents."""
    options: dict[str, Any] = {
        f"certificate_{name}": {"default": ""} for name in ("bundle", "bundle_file", "private_key_file")
    }
    options |= {"certificate_source": {"default": "pem"}, "certificate_minimum_days": {"default": 14}}
    options["certificate_private_key"] = {"default": ""}
    platform = {"domain": DOMAIN, "environment": "production"}

    def problems(**variables: Any) -> list[str]:
        found = Inventory({"co1": variables}, {"all": ["co1"]}, options=options, controller=controller)
        return [told(problem) for problem in certificate_check.problems(replace(found, topology=platform))]

    controller = Controller({"bundle.pem": (GOOD.pem + INNER.pem + OUTER.pem).encode()}.__getitem__, ROOT.pem.encode())
    given = {"certificate_bundle_file": "bundle.pem", "certificate_private_key": GOOD.key_pem}
    assert problems(**given) == []
    assert "expires on" in problems(**given, certificate_minimum_days=1000)[0]
    assert "are both empty" in problems(certificate_bundle_file="bundle.pem")[0]
    assert "cannot be read: no such lookup" in problems(certificate_bundle=Unreadable("no such lookup"))[0]
    assert problems(certificate_source="development")[0].startswith("certificate_source is development")
