#pragma once
// The sending end: streams of tokens, and sessions with receivers that ask for one. Datagrams and
// times in, datagrams out; no socket, no clock. A receiver is found by its session, not its
// address: where an authentic packet newer than all before comes from, there it is now (roaming).
// Whoever copies such a packet could have somebody else flooded; so a new address gets one packet
// without bytes for each that came from there, until one of them is answered from there.
//
// All of a stream is kept, so that a receiver can come back with whatever part it has.

#include "kv/stream/sender.hh"
#include "kv/transport/envelope.hh"

#include <functional>
#include <map>
#include <queue>
#include <unordered_map>

namespace kv {

using Peer = std::string;  // an address, as the socket has it

// Said to the other side, as bytes of a CLOSE packet: tokstream(5).
enum class CloseReason : std::uint8_t {
  kFinished = 0,  // all was delivered
  kNoStream = 1,  // none with this name
  kBeyond = 2,    // the receiver has more than the stream
  kTaken = 3,     // the session's number belongs to somebody else
  kFull = 4,      // more sessions than the sender serves
  kOther = 5,     // what the receiver has is not this stream's beginning
};

struct ServerOptions {
  SharedKey key;
  SenderOptions sender;  // envelope_bytes is set here
  bool ids = false;      // streams are ids, not text
  std::size_t most_sessions = 10'000;
  std::uint64_t most_bytes = 256u << 20;  // of all streams
  TimeNs patience = 30 * kSecond;         // without a packet: the receiver is lost
};

struct TransportCounts {
  std::uint64_t datagrams = 0, bytes = 0;  // sent
  std::uint64_t received = 0, malformed = 0, foreign = 0, replayed = 0;
};

class StreamServer {
 public:
  using Transmit = std::function<void(const Peer&, ByteView)>;
  StreamServer(const ServerOptions& options, Transmit transmit);
  ~StreamServer();

  // Bytes of a stream, which begins with them; whole tokens. Throws kInput over most_bytes.
  void push(TimeNs now, const std::string& stream, ByteView token);
  void finish(TimeNs now, const std::string& stream);
  // No stream is added any more: a HELLO for another gets kNoStream, else it waits for one.
  void finish_all(TimeNs now);

  void receive(TimeNs now, const Peer& from, ByteView datagram);
  // Sends what is due.
  void wake(TimeNs now);
  TimeNs wake_at() const;

  std::size_t sessions() const { return sessions_.size(); }  // open ones
  // Whether a receiver of one said something then or later.
  bool heard_since(TimeNs then) const;
  std::uint64_t delivered() const { return delivered_; }  // sessions that got all
  std::uint64_t lost() const { return lost_; }            // that were not heard of any more
  bool finished() const { return closed_; }
  const TransportCounts& counts() const { return counts_; }

 private:
  struct Stream;
  struct Session;
  void hello(TimeNs now, const Peer& from, const Envelope& envelope, ByteView datagram);
  void acknowledge(TimeNs now, const Peer& from, Session& session, const Envelope& envelope,
                   ByteView datagram);
  void refuse(const Peer& to, std::uint32_t session, const Salt& salt, CloseReason reason);
  void welcome(Session& session, const Peer& to);
  bool agree(Session& session);
  void feed(Session& session);
  void say_there(TimeNs now, Session& session);
  void serve(TimeNs now, Session& session);
  void close(Session& session, CloseReason reason);
  void drop(Session& session);
  void send(const Peer& to, const Seal& seal, const Envelope& envelope, ByteView body,
            ByteView clear = {});

  ServerOptions options_;
  Transmit transmit_;
  std::map<std::string, std::unique_ptr<Stream>> streams_;
  std::unordered_map<std::uint32_t, std::unique_ptr<Session>> sessions_;
  // When a session wants to be woken; entries that do not agree with the session are old.
  std::priority_queue<std::pair<TimeNs, std::uint32_t>,
                      std::vector<std::pair<TimeNs, std::uint32_t>>, std::greater<>>
      wakes_;
  std::uint64_t stored_bytes_ = 0, delivered_ = 0, lost_ = 0;
  bool closed_ = false;
  TransportCounts counts_;
  DataPacket packet_;
  Bytes body_, datagram_;
};

}  // namespace kv
