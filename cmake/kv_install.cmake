# Written by the set-up work: cmake --install.
