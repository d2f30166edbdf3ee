//! The codes that a connection is closed with (RFC 6455, section 7.4). What a client should do
//! follows from the code alone: 4000 to 4499 reconnect after a pause, 4500 to 4999 do not.

/// Why the gateway closes a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Close {
    /// The client said `bye`.
    Bye,
    /// Something in the gateway failed.
    Internal,
    /// The gateway stops; connect again.
    Drained,
    /// The gateway has no room now.
    Overloaded,
    /// The token expired.
    AuthExpired,
    /// Nothing was asked for in a long time.
    IdleTimeout,
    /// The client answers no pings.
    NoPong,
    /// The client does not read.
    SlowConsumer,
    /// Kafka cannot be reached.
    KafkaUnavailable,
    /// The client goes on producing beyond what it may.
    RateLimited,
    /// A frame that is none of the protocol's, or at the wrong time.
    ProtocolError,
    /// The token is not valid.
    Unauthenticated,
    /// The principal may not do this.
    Forbidden,
    /// There is no such topic or group.
    NotFound,
    /// The same session or instance connected elsewhere.
    TakenOver,
    /// No `hello` came.
    HelloTimeout,
    /// More sessions than the principal may have.
    LimitExceeded,
    /// Another member with the same instance id took over.
    Fenced,
    /// Too many frames that were refused.
    TooManyErrors,
    /// A subscription's options cannot be used.
    InvalidSubscription,
    /// A record could not be decoded, and the subscription asked for an end then.
    DecodeError,
}

impl Close {
    /// Every code, for the document.
    pub const ALL: [Self; 21] = [
        Self::Bye,
        Self::Internal,
        Self::Drained,
        Self::Overloaded,
        Self::AuthExpired,
        Self::IdleTimeout,
        Self::NoPong,
        Self::SlowConsumer,
        Self::KafkaUnavailable,
        Self::RateLimited,
        Self::ProtocolError,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::TakenOver,
        Self::HelloTimeout,
        Self::LimitExceeded,
        Self::Fenced,
        Self::TooManyErrors,
        Self::InvalidSubscription,
        Self::DecodeError,
    ];

    /// The number and the name, which is the close frame's reason.
    pub const fn code_and_name(self) -> (u16, &'static str) {
        match self {
            Self::Bye => (1000, "bye"),
            Self::Internal => (1011, "internal_error"),
            Self::Drained => (1012, "drained"),
            Self::Overloaded => (1013, "overloaded"),
            Self::AuthExpired => (4001, "auth_expired"),
            Self::IdleTimeout => (4002, "idle_timeout"),
            Self::NoPong => (4003, "no_pong"),
            Self::SlowConsumer => (4004, "slow_consumer"),
            Self::KafkaUnavailable => (4006, "kafka_unavailable"),
            Self::RateLimited => (4008, "rate_limited"),
            Self::ProtocolError => (4500, "protocol_error"),
            Self::Unauthenticated => (4501, "unauthenticated"),
            Self::Forbidden => (4503, "forbidden"),
            Self::NotFound => (4504, "topic_or_group_not_found"),
            Self::TakenOver => (4505, "taken_over"),
            Self::HelloTimeout => (4507, "hello_timeout"),
            Self::LimitExceeded => (4508, "limit_exceeded"),
            Self::Fenced => (4509, "fenced"),
            Self::TooManyErrors => (4510, "too_many_errors"),
            Self::InvalidSubscription => (4511, "invalid_subscription"),
            Self::DecodeError => (4512, "decode_error"),
        }
    }

    /// The number.
    pub const fn code(self) -> u16 {
        self.code_and_name().0
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.code_and_name().1
    }
}
