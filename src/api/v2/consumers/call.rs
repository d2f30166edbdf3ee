//! What the endpoints of a consumer instance take out of a request before they do their own: who calls, which
//! instance, the type of the answer, and the body.

use std::collections::HashSet;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use bytes::Bytes;
use serde::Deserialize;

use super::errors::{self, lookup_error, of_kafka};
use crate::api::v2::answer::AnswerType;
use crate::api::v2::media;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, authorize, may_create};
use crate::consumer::{Handle, InstanceError};
use crate::gateway::Gateway;
use crate::http::error::ApiError;
use crate::http::extract::Path;
use crate::read::partitions::visibility;
use crate::record::TopicPartition;

/// The instance that a path names.
#[derive(Debug, Clone, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Name {
    /// The consumer group
    #[param(example = "web")]
    pub(super) group: String,
    /// The instance
    #[param(example = "one")]
    pub(super) instance: String,
}

/// A principal's request to an instance.
#[derive(Debug)]
pub struct InstanceCall {
    pub(super) gateway: Gateway,
    pub(super) name: Name,
    pub(super) principal: Principal,
}

impl FromRequestParts<Gateway> for InstanceCall {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Gateway) -> Result<Self, ApiError> {
        let gateway = Gateway::from_request_parts(parts, state).await?;
        let Path(name) = Path::from_request_parts(parts, state).await?;
        let Extension(principal) = Extension::from_request_parts(parts, state)
            .await
            .map_err(|missing| ApiError::internal(format_args!("the principal: {missing}")))?;
        Ok(Self {
            gateway,
            name,
            principal,
        })
    }
}

impl InstanceCall {
    /// The instance, if it is here and the principal's.
    pub(super) fn instance(&self) -> Result<Handle, ApiError> {
        self.gateway
            .instances()
            .find(&self.name.group, &self.name.instance, &self.principal)
            .map_err(|why| lookup_error(why, &self.name))
    }

    /// What the instance answers, its refusal as an error of this API.
    pub(super) async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<T, InstanceError>>,
    ) -> Result<T, ApiError> {
        let answer = answer.await;
        answer.map_err(|refused| errors::of_instance(refused, &self.name))
    }

    /// Whether the principal may consume what the instance subscribes to and has: for a request that names no
    /// topic of its own. Rights may have gone since the instance was given these.
    pub(super) async fn authorize_instance(&self, handle: &Handle) -> Result<(), ApiError> {
        self.ask(handle.permit(self.principal.clone())).await
    }

    /// Whether the principal may consume these topics, and is shown any of them.
    pub(super) fn authorize_topics<'a>(
        &self,
        topics: impl Iterator<Item = &'a str>,
    ) -> Result<(), ApiError> {
        let asked: HashSet<&str> = topics.collect();
        for topic in &asked {
            authorize(&self.principal, Action::Consume, Resource::Topic(topic))?;
        }
        let asked: Vec<Arc<str>> = asked.into_iter().map(Arc::from).collect();
        visibility(&self.principal, &asked)?;
        Ok(())
    }

    /// Whether the principal may consume these partitions' topics, and there are such. `list` is the field
    /// that they stand in.
    pub(super) async fn check_partitions(
        &self,
        list: &str,
        partitions: impl Iterator<Item = &TopicPartition> + Clone,
    ) -> Result<(), ApiError> {
        self.authorize_topics(partitions.clone().map(|p| &*p.topic))?;
        let metadata = &self.gateway.cluster().metadata;
        for (index, partition) in partitions.enumerate() {
            let may_create = may_create(&self.principal, &partition.topic);
            let topic = metadata.topic_to_use(&partition.topic, may_create).await;
            let topic =
                topic.map_err(|fault| of_kafka(&fault).at(format!("/{list}/{index}/topic")))?;
            topic
                .partition(partition.partition)
                .map_err(|fault| of_kafka(&fault).at(format!("/{list}/{index}/partition")))?;
        }
        Ok(())
    }
}

/// The type of an answer without records to a request without a body; 406 where `Accept` rules out all that
/// are offered.
#[derive(Debug)]
pub struct InstanceAnswer(pub(super) AnswerType);

impl<S: Sync> FromRequestParts<S> for InstanceAnswer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        media::of_consumer_answer(&parts.headers).map(|kind| Self(AnswerType(kind)))
    }
}

/// The body of a request, and the type of the answer to it. 415 goes before 406, and both before what is wrong
/// with the body.
#[derive(Debug)]
pub struct ConsumerBody {
    pub(in crate::api::v2) answer: AnswerType,
    pub(in crate::api::v2) bytes: Bytes,
}

impl FromRequest<Gateway> for ConsumerBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, gateway: &Gateway) -> Result<Self, ApiError> {
        media::of_consumer_request(request.headers())?;
        let kind = media::of_consumer_answer(request.headers())?;
        let (parts, body) = request.into_parts();
        let bytes = gateway.body(&parts, body).await;
        Ok(Self {
            answer: AnswerType(kind),
            bytes: bytes.map_err(|error| error.typed(kind))?,
        })
    }
}
