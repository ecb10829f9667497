kv_test(stream_packet LIBS kv_stream)
kv_test(stream LIBS kv_stream)
kv_test(stream_network LIBS kv_stream)
kv_test(stream_simulate LIBS kv_stream)
target_compile_definitions(stream_network_test PRIVATE
  KV_TRACES="${PROJECT_SOURCE_DIR}/../shared/data/traces")
kv_fuzz(stream_packet SECONDS 20 LIBS kv_stream)
kv_fuzz(network_trace SECONDS 20 LIBS kv_stream)
kv_test(transport LIBS kv_transport)
kv_fuzz(transport SECONDS 20 LIBS kv_transport)
kv_test(linkemu LIBS kv_linkemu)
# What bench/tokstream_load.sh runs.
add_executable(tokstream_load ${PROJECT_SOURCE_DIR}/bench/tokstream_load.cc)
target_link_libraries(tokstream_load PRIVATE kv_transport)
