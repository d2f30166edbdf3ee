//! That pages neither skip nor repeat a record, whatever becomes of brokers and topics meanwhile.
