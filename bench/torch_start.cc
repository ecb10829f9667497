// What starting LibTorch costs, and nothing else: the yardstick of startup.sh. It leaves as the
// tools do, without taking down LibTorch's registries.

#include <ATen/Parallel.h>

#include <cstdlib>

int main() { std::_Exit(at::get_num_threads() > 0 ? 0 : 1); }
