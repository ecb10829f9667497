#pragma once
// How tokens are sent over a path that loses packets: what a packet carries, and what happens when
// tokens stay unacknowledged. A scheme is a choice of these two; sender.hh carries it out.

#include "kv/stream/time.hh"

#include <optional>
#include <string>
#include <vector>

namespace kv {

enum class Carry : std::uint8_t {
  kNew,      // each token once
  kUnacked,  // the new tokens and all unacknowledged ones: Chatterbox (NAIC'24, section 3)
  kRecent,   // the new token and the `depth` tokens before it: RFC 2198, RFC 4103 section 3
  kMosh,     // from what the receiver is assumed to have (USENIX ATC'12, section 2.3), or from what
             // it acknowledged if that is 100 bytes more at most, and 1,000 in all at most
  kCoded,    // the new token and `depth` random combinations of the unacknowledged ones: RFC 8681
};

enum class Recovery : std::uint8_t {
  kAtEnd,   // none but the next packet; timeouts behind the last token
  kTimer,   // resent when the oldest token is unacknowledged for over 1.15 RTT, also at the end
  kDupAck,  // three later packets arrived, or a timeout with backoff: RFC 6675, RFC 6298
  kRack,    // time since what was sent later arrived, and a probe at the tail: RFC 8985
};

struct Scheme {
  Carry carry = Carry::kUnacked;
  Recovery recovery = Recovery::kTimer;
  int depth = 0;   // of kRecent and kCoded
  int copies = 1;  // of each new packet
  // Bytes spent on what was sent before, as a share of the bytes of one copy; 1 unless given.
  double redundancy = 1;
  bool congestion_window = false;             // RFC 5681's, as TCP has it
  TimeNs least_timeout = 200 * kMillisecond;  // RttEstimate::timeout's floor; mosh's least timeout
  std::string name;                           // as parsed

  bool operator==(const Scheme&) const = default;
};

// chatterbox, chatterbox+timer, both also :SHARE (the cap on redundancy, 0.01 to 100), tcp, rack,
// duplicate:N (2 to 8), red:N (1 to 16), mosh, fec:N (1 to 4; fec is fec:1). Throws kUsage.
Scheme parse_scheme(const std::string& text);
// Separated by commas. Throws kUsage, also where one comes twice.
std::vector<Scheme> parse_schemes(const std::string& text);

}  // namespace kv
