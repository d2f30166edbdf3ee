//! Transactions and producers, as administrators see and end them.

use crate::kafka::Cluster;
use crate::kafka::admin::{
    ActiveProducer, DescribedTransaction, ListedTransaction, TransactionFilter,
};
use crate::kafka::fault::Fault;
use crate::record::TopicPartition;

impl Cluster {
    /// The transactions that fit `filter`, by id.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::transactions`].
    pub(crate) async fn transactions(
        &self,
        filter: &TransactionFilter,
    ) -> Result<Vec<ListedTransaction>, Fault> {
        self.admin.transactions(filter, self.bound()).await
    }

    /// Describes each of these transactional ids.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::describe_transactions`].
    pub(crate) async fn describe_transactions(
        &self,
        ids: &[String],
    ) -> Result<Vec<Result<DescribedTransaction, Fault>>, Fault> {
        self.admin.describe_transactions(ids, self.bound()).await
    }

    /// The producers that each of `partitions` knows. They must be there.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::producers`].
    pub(crate) async fn producers(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<Result<Vec<ActiveProducer>, Fault>>, Fault> {
        self.admin.producers(partitions, self.bound()).await
    }

    /// Aborts the open transaction of a producer in one partition.
    ///
    /// # Errors
    ///
    /// As [`crate::kafka::admin::Admin::abort_transaction`].
    pub(crate) async fn abort_transaction(
        &self,
        partition: &TopicPartition,
        producer: &ActiveProducer,
    ) -> Result<(), Fault> {
        let bound = self.bound();
        self.admin
            .abort_transaction(partition, producer, bound)
            .await
    }
}
