// Package cli is the command line of Warder, one file per command.
//
// The rules every command keeps:
//
//   - It does one thing. What it found goes to standard output: a table for people, or JSON with
//     -o json. Everything else, errors and hints too, goes to standard error.
//   - It works without a terminal: no prompt, no cursor movement; colour only on a terminal and
//     never when NO_COLOR is set.
//   - Text that came from a server, a client or a file is shown with its invisible and steering
//     characters replaced.
//   - An error says what was being done and what is wrong, and where we know it, a hint says what to
//     do next.
//   - The exit code says what happened:
//
// 0 done; 1 it failed; 2 the command was used wrongly; 3 the configuration is not valid;
// 4 a verification failed; 5 a decision said no.
package cli
