//! How the lying registry stores and returns manifests, and how it finds incomplete ones.

use etcdimg::digest::Digest;
use serde_json::{Value, json};

use crate::lies::Behaviour;
use crate::lying_registry::State;
use crate::wire::{ReceivedRequest, Reply};

pub fn manifests(
    behaviour: &Behaviour,
    state: &mut State,
    request: &ReceivedRequest,
    repository: &str,
    name: &str,
    body: &[u8],
) -> Reply {
    let key = |digest| (repository.to_owned(), digest);
    if request.method == "PUT" {
        let digest = Digest::of(body);
        if name.contains(':') && name != digest.to_string() {
            return Reply::error(400, "DIGEST_INVALID");
        }
        if let Some(missing) = missing(state, repository, body) {
            return Reply::error(400, missing);
        }
        let media_type = request.header("content-type").unwrap_or_default().to_owned();
        state.manifests.insert(key(digest), (media_type, body.to_vec()));
        if !name.contains(':') && !is_complete(state, repository, body) {
            state.violations.push(format!("{name} names something incomplete"));
        }
        if !name.contains(':') {
            state.tags.insert((repository.to_owned(), name.to_owned()), digest);
        }
        let mut reply = created(behaviour, digest);
        let document: Value = serde_json::from_slice(body).unwrap();
        if let Some(subject) =
            document["subject"]["digest"].as_str().filter(|_| behaviour.knows_referrers)
        {
            reply = reply.header("oci-subject", subject);
        }
        return reply;
    }
    let digest = if name.contains(':') {
        name.parse().ok()
    } else {
        state.tags.get(&(repository.to_owned(), name.to_owned())).copied()
    };
    let found = digest.and_then(|digest| Some((digest, state.manifests.get(&key(digest))?)));
    let Some((digest, (media_type, bytes))) = found else {
        return Reply::error(404, "MANIFEST_UNKNOWN");
    };
    let reply = Reply::status(200).header("content-type", media_type).body(bytes);
    if behaviour.says_digests {
        reply.header("docker-content-digest", digest.to_string())
    } else {
        reply
    }
}

/// The blobs and manifests that a document refers to and the repository does not have.
fn missing(state: &State, repository: &str, body: &[u8]) -> Option<&'static str> {
    let document: Value = serde_json::from_slice(body).unwrap();
    let digest = |it: &Value| it["digest"].as_str().unwrap().parse::<Digest>().unwrap();
    let is_foreign = |it: &Value| {
        let media_type = it["mediaType"].as_str().unwrap();
        media_type.contains("foreign") || media_type.contains("nondistributable")
    };
    let layers = document["layers"].as_array().into_iter().flatten();
    let config = Some(&document["config"]).filter(|it| it.is_object());
    for blob in layers.chain(config).filter(|it| !is_foreign(it)) {
        if !state.blobs.contains_key(&(repository.to_owned(), digest(blob))) {
            return Some("MANIFEST_BLOB_UNKNOWN");
        }
    }
    for child in document["manifests"].as_array().into_iter().flatten() {
        if !state.manifests.contains_key(&(repository.to_owned(), digest(child))) {
            return Some("MANIFEST_UNKNOWN");
        }
    }
    None
}

/// Whether everything below a document is there: what the check of a lenient registry would miss.
fn is_complete(state: &State, repository: &str, body: &[u8]) -> bool {
    let document: Value = serde_json::from_slice(body).unwrap();
    let children = document["manifests"].as_array().into_iter().flatten();
    let child = |it: &Value| {
        let digest = it["digest"].as_str().unwrap().parse().unwrap();
        let known = state.manifests.get(&(repository.to_owned(), digest));
        known.is_some_and(|(_, bytes)| is_complete(state, repository, bytes))
    };
    missing(state, repository, body).is_none() && children.into_iter().all(child)
}

pub fn referrers(state: &State, repository: &str, subject: &str) -> Reply {
    let mut manifests = Vec::new();
    for ((place, digest), (media_type, bytes)) in &state.manifests {
        let document: Value = serde_json::from_slice(bytes).unwrap();
        if place == repository && document["subject"]["digest"] == subject {
            manifests
                .push(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }));
        }
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    Reply::status(200).body(index.to_string().as_bytes())
}

pub fn created(behaviour: &Behaviour, digest: Digest) -> Reply {
    let reply = Reply::status(201).header("location", "/somewhere");
    if behaviour.says_digests {
        reply.header("docker-content-digest", digest.to_string())
    } else {
        reply
    }
}
