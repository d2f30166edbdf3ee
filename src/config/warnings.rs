//! What is allowed and seldom meant. `config check` says it, and so does the log at the start.

use super::load::Loaded;
use super::secrets;
use super::validate;
use super::{AuthMode, Settings};

/// A line for each, which begins with the setting's path.
pub(super) fn warnings(loaded: &Loaded) -> Vec<String> {
    let settings = &loaded.settings;
    let mut warnings = secrets::warnings(loaded);
    if settings.auth.mode == AuthMode::None {
        return warnings;
    }
    for (index, issuer) in settings.auth.issuers.iter().enumerate() {
        if issuer.audience.is_empty() {
            warnings.push(format!(
                "auth.issuers[{index}]: no audience, so that a token that was issued for any other service is accepted here, too: set the aud that is the gateway's own"
            ));
        }
    }
    let auth = &settings.auth;
    if let Some(address) = validate::reachable(loaded)
        && auth.users_file.is_some()
        && settings.tls.cert.is_none()
    {
        warnings.push(format!(
            "auth.users_file: passwords and API keys come in the clear, as listen has {address} and there is no tls.cert: set it, or let only a proxy that ends TLS connect"
        ));
    }
    let has_roles_by_name = settings.tls.client_ca.is_some() || auth.users_file.is_some();
    if !auth.roles.is_empty() && auth.roles_claim.is_none() && !has_roles_by_name {
        warnings.push(
            "auth.roles: set without auth.roles_claim, so that no token has any of them: name the claim that lists roles".to_owned(),
        );
    }
    if has_several_sources(settings) {
        let by_subject_alone = |text: &&String| text.contains("{sub}") && !text.contains("{iss}");
        for (name, permissions) in &auth.roles {
            if let Some(permission) = permissions.iter().find(by_subject_alone) {
                warnings.push(format!(
                    "auth.roles.{name}: {permission} holds for a subject whoever names it, and several may: add {{iss}}, or make them one with a realm"
                ));
            }
        }
    }
    warnings
}

/// Whether the same subject may come from several places that are not of one realm.
fn has_several_sources(settings: &Settings) -> bool {
    let auth = &settings.auth;
    let mut realms: Vec<Option<&String>> =
        auth.issuers.iter().map(|one| one.realm.as_ref()).collect();
    if settings.tls.client_ca.is_some() {
        realms.push(auth.certificate_realm.as_ref());
    }
    if auth.users_file.is_some() {
        realms.push(None);
    }
    let first = realms.first().copied().flatten();
    realms.len() > 1 && (first.is_none() || realms.iter().any(|realm| *realm != first))
}
