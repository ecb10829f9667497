kv_test(tokenizer LIBS kv_tokenizer kv_checkpoint)
target_compile_definitions(tokenizer_test PRIVATE KV_TEST_FOLDER="${CMAKE_CURRENT_SOURCE_DIR}")
kv_fuzz(tokenizer_json LIBS kv_tokenizer)
kv_fuzz(chat_template SECONDS 20 LIBS kv_tokenizer)

add_executable(tokenize ${CMAKE_CURRENT_SOURCE_DIR}/tokenize.cc)
target_link_libraries(tokenize PRIVATE kv_tokenizer)
add_test(NAME peers.tokenizer
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/peers/tokenizer_ids.sh $<TARGET_FILE:tokenize>)
set_tests_properties(peers.tokenizer PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 900)
add_test(NAME peers.chat
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/peers/chat_prompts.sh $<TARGET_FILE:tokenize>)
set_tests_properties(peers.chat PROPERTIES SKIP_RETURN_CODE 125 TIMEOUT 300)
