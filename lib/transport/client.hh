#pragma once
// The receiving end of one stream: asks for it, answers what comes, asks again when nothing does,
// also from another address. Datagrams and times in, datagrams and bytes out; no socket, no clock.

#include "kv/base/hash.hh"
#include "kv/stream/receiver.hh"
#include "kv/transport/server.hh"

namespace kv {

struct ClientOptions {
  SharedKey key;
  std::string stream;        // its name; empty is one too
  std::uint64_t offset = 0;  // bytes that are here already
  TimeNs ack_delay = 0;
  TimeNs patience = 30 * kSecond;  // without a packet: the sender is lost
};

class StreamClient {
 public:
  using Transmit = std::function<void(ByteView)>;
  using Deliver = std::function<void(ByteView)>;
  // `here`: of the bytes that are here already.
  StreamClient(TimeNs now, const ClientOptions& options, Transmit transmit, Deliver deliver,
               StreamHash here = {});

  enum class State : std::uint8_t {
    kAsking,  // no answer yet
    kOpen,
    kDelivered,  // all is here, as its hash says; answers on until the sender is content
    kEnded,      // all is here, and nobody needs an answer any more
    kRefused,    // reason() says why; kOther also when the whole is not what the sender says
    kLost,       // nothing was heard for `patience`
  };
  State state() const { return state_; }
  CloseReason reason() const { return reason_; }

  void receive(TimeNs now, ByteView datagram);
  void wake(TimeNs now);
  TimeNs wake_at() const;
  // Nothing was heard for a while: the caller may want another socket, for another address.
  bool wants_socket(TimeNs now) const;

  std::uint64_t received_bytes() const { return received_; }
  bool ids() const { return ids_; }
  std::uint32_t session() const { return session_; }
  const TransportCounts& counts() const { return counts_; }

 private:
  void ask(TimeNs now);
  void welcome(TimeNs now, const Envelope& envelope, ByteView datagram);
  void data(TimeNs now, const Envelope& envelope, ByteView datagram);
  void closed(TimeNs now, const Envelope& envelope, ByteView datagram);
  void answer(TimeNs now);
  void send(const Seal& seal, const Envelope& envelope, ByteView body);

  ClientOptions options_;
  Transmit transmit_;
  Deliver deliver_;
  State state_ = State::kAsking;
  CloseReason reason_ = CloseReason::kFinished;
  std::uint32_t session_ = 0, previous_ = 0;
  Salt salt_{};
  Seal data_seal_, ack_seal_;
  bool welcomed_ = false;  // the keys of this session are there
  std::optional<StreamReceiver> receiver_;
  ReplayWindow numbers_;
  StreamHash hash_;
  std::uint64_t received_ = 0, next_number_ = 0;
  bool ids_ = false;
  TimeNs heard_ = 0, asks_at_ = 0, ask_pause_ = 0, speaks_at_ = kNever, ends_at_ = kNever;
  TransportCounts counts_;
  DataPacket packet_;
  AckPacket ack_;
  Bytes body_, datagram_;
};

}  // namespace kv
