//! Searches, deletions and new ACLs are read, and what is wrong with them is named.

use super::*;

fn told(error: ApiError) -> (u16, u32, String) {
    let status = error.status().as_u16();
    let body = error.into_body();
    let field = body.field.unwrap_or_default().into_owned();
    (status, body.error_code, field)
}

fn asked(query: &str) -> Result<AclFilter, ApiError> {
    search(&mut Query::parse(query).unwrap())
}

#[test]
fn a_search_is_for_everything_unless_it_says_otherwise() {
    let all = AclFilter {
        resource_type: ResourceType::Any,
        resource_name: None,
        pattern_type: PatternType::Any,
        principal: None,
        host: None,
        operation: AclOperation::Any,
        permission: AclPermission::Any,
    };
    assert_eq!(asked("").unwrap(), all);
    assert_eq!(asked("host=&resource_name=").unwrap(), all);
    let some = asked(
        "resource_type=topic&pattern_type=Prefixed&principal=User%3Aa&permission=ALLOW&operation=two_phase_commit",
    );
    let expected = AclFilter {
        resource_type: ResourceType::Topic,
        pattern_type: PatternType::Prefixed,
        principal: Some("User:a".to_owned()),
        operation: AclOperation::TwoPhaseCommit,
        permission: AclPermission::Allow,
        ..all
    };
    assert_eq!(some.unwrap(), expected);
}

#[test]
fn what_is_wrong_with_a_search_is_named() {
    for (query, expected) in [
        ("operation=juggle", (404, 404, "operation")),
        ("operation=unknown", (400, 400, "operation")),
        ("operation=", (404, 404, "operation")),
        ("host=a&host=b", (400, 400, "host")),
    ] {
        let error = asked(query).unwrap_err();
        let message = error.message().to_owned();
        let (status, code, field) = told(error);
        assert_eq!((status, code, &*field), expected, "{query}");
        assert_eq!(message.contains("juggle"), query.contains("juggle"));
    }
}

#[test]
fn a_deletion_says_what_of_everything_it_means() {
    let words = "resource_type=any&pattern_type=any&operation=any&permission=any";
    let read = |query: &str| deletion(&mut Query::parse(query).unwrap());
    assert_eq!(read(words).unwrap(), asked("").unwrap());
    for name in ["resource_type", "pattern_type", "operation", "permission"] {
        let without = words.replace(&format!("{name}=any"), "");
        let (status, code, field) = told(read(&without).unwrap_err());
        assert_eq!((status, code, &*field), (400, 400, name));
    }
}

#[test]
fn what_is_wrong_with_a_new_acl_is_named() {
    let whole = serde_json::json!({
        "resource_type": "user", "resource_name": "a", "pattern_type": "literal",
        "principal": "User:b", "host": "*", "operation": "create_tokens", "permission": "allow",
    });
    let read = |body: &serde_json::Value| {
        let body = JsonBody::of(&body.to_string());
        new_acl(&body.object(FIELDS)?)
    };
    let acl = read(&whole).unwrap();
    assert_eq!(acl.resource_type, ResourceType::User);
    assert_eq!(acl.operation, AclOperation::CreateTokens);
    for (field, value) in [
        ("resource_type", "ANY"),
        ("resource_type", "UNKNOWN"),
        ("resource_type", "BROKER"),
        ("pattern_type", "MATCH"),
        ("pattern_type", "ANY"),
        ("operation", "any"),
        ("permission", "any"),
        ("principal", ""),
    ] {
        let mut body = whole.clone();
        body[field] = value.into();
        let (status, code, at) = told(read(&body).unwrap_err());
        assert_eq!((status, code, at), (400, 400, format!("/{field}")));
    }
    for field in FIELDS {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(*field);
        let (status, code, at) = told(read(&body).unwrap_err());
        assert_eq!((status, code, at), (400, 400, format!("/{field}")));
    }
    let mut more = whole.clone();
    more["extra"] = 1.into();
    assert_eq!(told(read(&more).unwrap_err()).0, 422);
}
