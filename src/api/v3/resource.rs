//! The shapes that all answers share: the links and the name of a resource, and lists of resources.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::own_url::Segment;

/// Where a resource is, and its name
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ResourceMetadata)]
pub struct Metadata {
    /// Its URL.
    #[serde(rename = "self")]
    #[schema(example = "http://localhost:8082/v3/clusters/4L6g3nShT-eMCtK--X86sw")]
    url: String,
    /// Its name, as Confluent's tools have it.
    #[schema(example = "crn:///kafka=4L6g3nShT-eMCtK--X86sw")]
    resource_name: String,
}

/// Where a list is, and where it goes on
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListMetadata {
    /// Its URL.
    #[serde(rename = "self")]
    pub(super) url: String,
    /// The URL of its next page, where `page_size` or its bound of 10,000 cut it; else `null`.
    #[schema(required = true)]
    pub(super) next: Option<String>,
}

/// A link to a resource
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Related {
    /// Its URL.
    related: String,
}

/// Makes the links of what belongs to one cluster.
#[derive(Debug)]
pub(super) struct Links {
    clusters: String,
    cluster: String,
    id: String,
}

impl Links {
    /// `clusters` is the URL of the list of clusters.
    pub(super) fn new(clusters: String, id: &str) -> Self {
        Self {
            cluster: format!("{clusters}/{}", Segment(id)),
            clusters,
            id: id.to_owned(),
        }
    }

    /// The URL of the list of clusters.
    pub(super) fn clusters(&self) -> String {
        self.clusters.clone()
    }

    /// The cluster's id.
    pub(super) fn id(&self) -> String {
        self.id.clone()
    }

    /// The URL of what these segments name below the cluster.
    pub(super) fn url(&self, segments: &[&str]) -> String {
        let mut url = self.cluster.clone();
        for segment in segments {
            url.push('/');
            url.push_str(&Segment(segment).to_string());
        }
        url
    }

    /// A link to the same.
    pub(super) fn related(&self, segments: &[&str]) -> Related {
        Related {
            related: self.url(segments),
        }
    }

    /// A link to what is done with what these segments name.
    pub(super) fn action(&self, segments: &[&str], action: &str) -> Related {
        Related {
            related: format!("{}:{action}", self.url(segments)),
        }
    }

    /// Where a resource is, and what it is called: pairs of a kind and a name, which is empty where
    /// there is but one of the kind.
    pub(super) fn metadata(&self, segments: &[&str], names: &[(&str, &str)]) -> Metadata {
        let mut resource_name = format!("crn:///kafka={}", Segment(&self.id));
        for (kind, name) in names {
            resource_name.push_str(&match *name {
                "" => format!("/{kind}"),
                name => format!("/{kind}={}", Segment(name)),
            });
        }
        Metadata {
            url: self.url(segments),
            resource_name,
        }
    }
}

/// Defines a resource's list, and the words that `kind` says of both.
macro_rules! resource {
    ($(#[$doc:meta])* $list:ident of $data:ident: $kind:ident, $list_kind:ident, $kind_name:tt, $list_name:tt) => {
        /// What the resource is
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
        pub enum $kind {
            /// The only one.
            #[serde(rename = $kind_name)]
            It,
        }

        /// What the list is of
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
        pub enum $list_kind {
            /// The only one.
            #[serde(rename = $list_name)]
            It,
        }

        $(#[$doc])*
        #[derive(Debug, serde::Serialize, utoipa::ToSchema)]
        pub struct $list {
            kind: $list_kind,
            metadata: $crate::api::v3::resource::ListMetadata,
            /// The resources.
            data: Vec<$data>,
        }

        impl $list {
            pub(super) fn new(
                metadata: $crate::api::v3::resource::ListMetadata,
                data: Vec<$data>,
            ) -> Self {
                Self {
                    kind: $list_kind::It,
                    metadata,
                    data,
                }
            }
        }
    };
}
pub(super) use resource;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_percent_encoded_and_lists_of_all_are_not() {
        let links = Links::new("http://gw/v3/clusters".to_owned(), "c-1");
        assert_eq!(links.url(&[]), "http://gw/v3/clusters/c-1");
        assert_eq!(
            links.url(&["consumer-groups", "a/b"]),
            "http://gw/v3/clusters/c-1/consumer-groups/a%2Fb"
        );
        assert_eq!(
            links.url(&["topics", "-", "configs"]),
            "http://gw/v3/clusters/c-1/topics/-/configs"
        );
    }

    #[test]
    fn resource_names_are_those_of_confluent_rest_proxy() {
        let links = Links::new("http://gw/v3/clusters".to_owned(), "c-1");
        let name = |names: &[(&str, &str)]| links.metadata(&[], names).resource_name;
        assert_eq!(name(&[]), "crn:///kafka=c-1");
        assert_eq!(
            name(&[("topic", "t"), ("partition", "0")]),
            "crn:///kafka=c-1/topic=t/partition=0"
        );
        assert_eq!(
            name(&[("topic", "t"), ("partition", "0"), ("reassignment", "")]),
            "crn:///kafka=c-1/topic=t/partition=0/reassignment"
        );
    }
}
