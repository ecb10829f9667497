#pragma once
// Measured networks from files, as others keep them. Told apart by their first line:
//
//   Starlink   "timestamp_start,...,packet_loss,..,ping_avg,...": a window of pings a line
//              (sys-uos/Starlink-on-the-Road)
//   5G         "Timestamp,Longitude,...,PINGAVG,..,PINGLOSS,...": a line a second, some with pings
//              (uccmisl/5Gdataset); a window lasts until the next line with pings
//   Mahimahi   one integer a line: the millisecond in which a packet of 1,504 bytes may leave
//   bandwidth  "SECONDS MBIT/S" a line: the rate from then on
//
// All are repeated from the start when they end. Hostile input: every field is checked.

#include "kv/base/file.hh"
#include "kv/stream/time.hh"

#include <vector>

namespace kv {

// A stretch of time with one loss and one delay.
struct NetworkWindow {
  TimeNs length = 0;
  double loss = 0;     // share of packets, 0 to 1
  TimeNs one_way = 0;  // least delay of a direction; 0 when nothing came back
  TimeNs jitter = 0;   // mean of what comes on top
};
// Starlink or 5G. Throws kInput with the line.
std::vector<NetworkWindow> read_windows(Input input);

// Bytes that may leave, at which times.
struct CapacityTrace {
  struct Step {
    TimeNs at = 0;
    std::uint64_t bytes = 0;        // at this moment (Mahimahi)
    std::uint64_t bytes_per_s = 0;  // from now on (bandwidth)
  };
  std::vector<Step> steps;  // ascending, the first at 0 or later
  TimeNs length = 0;        // when it begins again; above the last step's time
  bool rates = false;       // bytes_per_s count, not bytes

  double round_bytes() const;  // what it lets through before it begins again
};
// Mahimahi or bandwidth. Throws kInput with the line, also for a trace that lets less than
// a byte a second through.
CapacityTrace read_capacity(Input input);

}  // namespace kv
