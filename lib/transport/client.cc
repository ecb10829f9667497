#include "kv/transport/client.hh"

#include "kv/transport/messages.hh"

#include <algorithm>

namespace kv {
namespace {

constexpr TimeNs kFirstAsk = 200 * kMillisecond, kLongestAsk = 2 * kSecond;
constexpr TimeNs kSilence = 3 * kSecond;    // then asks anew, as a new session
constexpr TimeNs kDeaf = 2 * kSecond;       // before that, from another address
constexpr TimeNs kKeepAlive = 1 * kSecond;  // so that the sender knows the address
constexpr TimeNs kLinger = 3 * kSecond;     // of silence: a sender that had not heard would speak

}  // namespace

StreamClient::StreamClient(TimeNs now, const ClientOptions& options, Transmit transmit,
                           Deliver deliver, StreamHash here)
    : options_(options),
      transmit_(std::move(transmit)),
      deliver_(std::move(deliver)),
      hash_(std::move(here)),
      received_(options.offset),
      heard_(now) {
  if (options.stream.size() > kMaxName) {
    fail_usage("--stream '{}': a name of {} bytes at most", options.stream, kMaxName);
  }
  ask_pause_ = kFirstAsk;
  salt_ = random_salt();
  session_ = random_session();
  ask(now);
}

void StreamClient::send(const Seal& seal, const Envelope& envelope, ByteView body) {
  seal.close(envelope, {}, body, datagram_);
  ++counts_.datagrams;
  counts_.bytes += datagram_.size();
  transmit_(datagram_);
}

// The same datagram until it is answered: a key and a number are for one content only.
void StreamClient::ask(TimeNs now) {
  encode_hello({received_, hash_.value(), previous_, options_.stream}, body_);
  Seal(options_.key, "hello", salt_, {})
      .close({PacketType::kHello, session_, 0}, salt_, body_, datagram_);
  ++counts_.datagrams;
  counts_.bytes += datagram_.size();
  transmit_(datagram_);
  asks_at_ = now + ask_pause_;
  ask_pause_ = std::min(ask_pause_ * 3 / 2, kLongestAsk);
}

void StreamClient::receive(TimeNs now, ByteView datagram) {
  ++counts_.received;
  Envelope envelope;
  if (!parse_envelope(datagram, options_.key.there(), envelope)) {
    ++counts_.malformed;
  } else if (envelope.session != session_) {
    ++counts_.foreign;
  } else if (envelope.type == PacketType::kWelcome) {
    welcome(now, envelope, datagram);
  } else if (envelope.type == PacketType::kData) {
    data(now, envelope, datagram);
  } else if (envelope.type == PacketType::kClose) {
    closed(now, envelope, datagram);
  } else {
    ++counts_.foreign;
  }
  answer(now);
}

void StreamClient::welcome(TimeNs now, const Envelope& envelope, ByteView datagram) {
  if (welcomed_) return;  // a second answer to a second question
  Salt salt;
  Welcome welcome;
  if (envelope.number != 0 || !parse_salt(envelope, datagram, salt)) {
    ++counts_.malformed;
    return;
  }
  if (!Seal(options_.key, "welcome", salt_, salt).open(envelope, salt.size(), datagram, body_)) {
    ++counts_.foreign;
    return;
  }
  if (!parse_welcome(body_, welcome) || welcome.offset != received_) {
    ++counts_.malformed;
    return;
  }
  data_seal_ = Seal(options_.key, "data", salt_, salt);
  ack_seal_ = Seal(options_.key, "ack", salt_, salt);
  welcomed_ = true;
  ids_ = welcome.ids;
  receiver_.emplace(received_, options_.ack_delay);
  numbers_ = {};
  next_number_ = 0;
  heard_ = now;
  state_ = State::kOpen;
  speaks_at_ = now;  // the sender waits for a packet under the new key
}

void StreamClient::data(TimeNs now, const Envelope& envelope, ByteView datagram) {
  if (!welcomed_ || !data_seal_.open(envelope, 0, datagram, body_)) {
    ++counts_.foreign;
    return;
  }
  if (!parse_data(body_, packet_)) {
    ++counts_.malformed;
    return;
  }
  if (!numbers_.take(envelope.number)) {
    ++counts_.replayed;
    return;
  }
  packet_.number = envelope.number;
  heard_ = now;
  receiver_->receive(now, packet_);
  if (!receiver_->fresh().empty()) {
    hash_.add(receiver_->fresh());
    deliver_(receiver_->fresh());
    received_ = receiver_->received();
  }
  if (receiver_->whole() && state_ == State::kOpen) {
    if (hash_.value() == receiver_->digest()) {
      state_ = State::kDelivered;
      ends_at_ = now + options_.patience;
    } else {
      state_ = State::kRefused;
      reason_ = CloseReason::kOther;
    }
  }
}

void StreamClient::closed(TimeNs now, const Envelope& envelope, ByteView datagram) {
  // Number 0 is an answer to the question, with a salt of its own.
  Salt salt;
  const bool known = envelope.number > 0
                         ? welcomed_ && data_seal_.open(envelope, 0, datagram, body_)
                         : !welcomed_ && parse_salt(envelope, datagram, salt) &&
                               Seal(options_.key, "refuse", salt_, salt)
                                   .open(envelope, salt.size(), datagram, body_);
  if (!known) {
    ++counts_.foreign;
    return;
  }
  if (body_.size() != 1 || body_[0] > static_cast<std::byte>(CloseReason::kOther)) {
    ++counts_.malformed;
    return;
  }
  heard_ = now;
  reason_ = static_cast<CloseReason>(body_[0]);
  if (reason_ == CloseReason::kTaken) {
    if (welcomed_) return;
    session_ = random_session();
    salt_ = random_salt();
    ask(now);
  } else if (reason_ != CloseReason::kFinished) {
    state_ = State::kRefused;
  } else if (state_ == State::kDelivered) {
    state_ = State::kEnded;
  }
}

void StreamClient::answer(TimeNs now) {
  if (!welcomed_ || state_ == State::kRefused) return;
  bool spoke = false;
  const auto speak = [&] {
    body_.clear();
    encode_ack(ack_, body_);
    send(ack_seal_, {PacketType::kAck, session_, next_number_++}, body_);
    spoke = true;
  };
  while (receiver_->next_ack(now, ack_)) speak();
  if (!spoke && speaks_at_ <= now) {
    ack_.received = received_;
    ack_.whole = receiver_->whole();
    ack_.ranges.clear();
    ack_.delay_us = 0;
    ack_.echo = 0;  // it answers nothing: a round trip must not be measured by it
    speak();
  }
  if (spoke) speaks_at_ = now + kKeepAlive;
}

bool StreamClient::wants_socket(TimeNs now) const { return now - heard_ >= kDeaf; }

void StreamClient::wake(TimeNs now) {
  if (state_ == State::kDelivered && now >= std::min(ends_at_, heard_ + kLinger)) {
    state_ = State::kEnded;
  }
  if (state_ != State::kAsking && state_ != State::kOpen && state_ != State::kDelivered) return;
  if (state_ != State::kDelivered) {
    if (now - heard_ >= options_.patience) {
      state_ = State::kLost;
      return;
    }
    // A sender that lives would have answered the last keep-alive or sent a token; ask as new.
    if (state_ == State::kOpen && now - heard_ >= kSilence && now >= asks_at_) {
      state_ = State::kAsking;
      welcomed_ = false;
      previous_ = session_;
      salt_ = random_salt();
      session_ = random_session();
      ask_pause_ = kFirstAsk;
      ask(now);
      return;
    }
    if (state_ == State::kAsking && now >= asks_at_) ask(now);
  }
  answer(now);
}

TimeNs StreamClient::wake_at() const {
  switch (state_) {
    case State::kAsking:
      return std::min(asks_at_, heard_ + options_.patience);
    case State::kOpen:
      return std::min({speaks_at_, receiver_->wake_at(), std::max(heard_ + kSilence, asks_at_),
                       heard_ + options_.patience});
    case State::kDelivered:
      return std::min({receiver_->wake_at(), speaks_at_, ends_at_, heard_ + kLinger});
    default:
      return kNever;
  }
}

}  // namespace kv
