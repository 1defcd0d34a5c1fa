// doctest itself, with main, for all tests.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>
#include <signal.h>

int main(int argc, char** argv) {
  // As Node does at its start. siw sends what is posted from the thread that posts it, without MSG_NOSIGNAL:
  // a post to a connection that the peer has just ended raises SIGPIPE there.
  signal(SIGPIPE, SIG_IGN);
  return doctest::Context(argc, argv).run();
}
