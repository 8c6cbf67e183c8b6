//! Certificates of a test cluster: an authority, servers, peers and a client.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};

/// A certificate authority of one case: `ca.crt`, and `server`, `peer` and `client` signed by it.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub folder: PathBuf,
}

impl Certificates {
    pub fn make(folder: PathBuf) -> io::Result<Self> {
        Self::for_addresses(folder, &["127.0.0.1"])
    }

    /// For members that are found there, by address or by name, and on this machine.
    pub fn for_addresses(folder: PathBuf, addresses: &[&str]) -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "etcd-ca");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, key).map_err(io::Error::other)?;
        write(&folder, "ca.crt", &authority.pem())?;
        for name in ["server", "peer", "client"] {
            let key = KeyPair::generate().map_err(io::Error::other)?;
            let certificate = params(name, addresses)
                .and_then(|it| it.signed_by(&key, &authority))
                .map_err(io::Error::other)?;
            write(&folder, &format!("{name}.crt"), &certificate.pem())?;
            write(&folder, &format!("{name}.key"), &key.serialize_pem())?;
        }
        Ok(Self { folder })
    }

    /// Clients must show a certificate.
    pub fn server_flags(at: &str) -> Vec<String> {
        vec![
            format!("--cert-file={at}/server.crt"),
            format!("--key-file={at}/server.key"),
            format!("--trusted-ca-file={at}/ca.crt"),
            "--client-cert-auth=true".to_owned(),
        ]
    }

    pub fn peer_flags(at: &str) -> Vec<String> {
        vec![
            format!("--peer-cert-file={at}/peer.crt"),
            format!("--peer-key-file={at}/peer.key"),
            format!("--peer-trusted-ca-file={at}/ca.crt"),
            "--peer-client-cert-auth=true".to_owned(),
        ]
    }

    pub fn client_flags(at: &str) -> Vec<String> {
        vec![
            format!("--cert={at}/client.crt"),
            format!("--key={at}/client.key"),
            format!("--cacert={at}/ca.crt"),
        ]
    }
}

fn params(name: &str, addresses: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    for address in std::iter::once(&"127.0.0.1").chain(addresses) {
        params.subject_alt_names.push(match address.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*address).try_into()?),
        });
    }
    params.distinguished_name.push(DnType::CommonName, name);
    // Every etcd is a server and, towards the others and itself, a client.
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

/// Readable for every user that a case runs as; the keys are worth nothing elsewhere.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
