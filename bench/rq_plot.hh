#pragma once
// Rate-quality curves as SVG.

#include "rq_report.hh"

#include <string>

namespace kv {

// Mean KLD (log) over bits a value (log), with the times smaller than 16 bits above: one line a
// family, its name at its end, its points marked and with their 95 % intervals. Points with a KLD
// of exactly 0 stand in a strip of their own below the axis. Legible on light and dark pages.
std::string plot_svg(const Table& table, const std::string& title);

}  // namespace kv
