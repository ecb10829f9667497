#pragma once
// A curve of rate and quality, read at a quality.

#include <optional>
#include <vector>

namespace kv {

struct RatePoint {
  double bits = 0, kld = 0;
};

// Bits at which a curve has this KLD: the line between neighbours in log bits and log KLD, at the
// lowest bits where the curve comes down through it. Points with a KLD of 0 are left out. Nothing
// where the points do not reach: no extrapolation.
std::optional<double> bits_at_kld(std::vector<RatePoint> points, double kld);

}  // namespace kv
