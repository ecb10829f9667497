#pragma once
// Which packets a path loses.
//
//   none
//   iid:P                each packet with probability P
//   ge:P,R,G,B           Gilbert-Elliott, a step a packet: good to bad with P, bad to good with R,
//                        lost with G in good and B in bad (Tambur's: ge:0.068,0.852,0.04,0.5)
//   bursts:MS,RATE[,IN]  outages of exponential length, mean MS, in which packets are lost with
//                        probability IN (1); so many of them that RATE of all time's packets is
//                        lost
//   trace:FILE[,MS]      windows of read_windows(): in each its loss, in outages of mean MS (100;
//   0:
//                        each packet for itself)
//
// Outages are in time and hit both directions of a path at once; the rest is each direction's own.

#include "kv/stream/network_trace.hh"
#include "kv/stream/random.hh"

#include <memory>
#include <string>

namespace kv {

struct LossSpec {
  enum class Kind : std::uint8_t { kNone, kIid, kGilbertElliott, kBursts, kTrace };
  Kind kind = Kind::kNone;
  double iid = 0;
  double good_to_bad = 0, bad_to_good = 0, loss_good = 0, loss_bad = 0;
  TimeNs burst = 0;     // mean length of an outage
  double rate = 0;      // share lost in all
  double in_burst = 1;  // share lost in an outage
  std::shared_ptr<const std::vector<NetworkWindow>> windows;
  std::string text;  // as given
};

// Reads the trace's file. Throws kUsage for a bad specification, kInput for a bad file.
LossSpec parse_loss(const std::string& text);

// Where a path is in its trace, and whether it is out. The same for the same seed.
class Outages {
 public:
  Outages(const LossSpec& spec, std::uint64_t seed);
  // `now` never goes back.
  void at(TimeNs now);
  bool out() const { return out_; }
  const NetworkWindow* window() const;  // null without a trace

 private:
  void enter(TimeNs now, double share);
  double share() const;

  const LossSpec* spec_;
  Random random_;
  bool out_ = false;
  TimeNs until_ = kNever;  // the state holds
  std::size_t window_ = 0;
  TimeNs window_until_ = kNever;
};

// One direction. `spec` must outlive it.
class Loss {
 public:
  // `path_seed` is the same for both directions of a path.
  Loss(const LossSpec& spec, std::uint64_t path_seed, std::uint64_t direction);
  // Whether a packet that sets out now is lost. `now` never goes back.
  bool lost(TimeNs now);
  const NetworkWindow* window(TimeNs now);

 private:
  const LossSpec* spec_;
  Outages outages_;
  Random random_;
  bool bad_ = false;  // Gilbert-Elliott
};

}  // namespace kv
