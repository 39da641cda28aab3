// Package runtime is what a program that runs policies has around package
// policywasm, which does no I/O: memory that is mapped and used again
// ([Memory]), a folder of compiled modules ([Cache]), a child process in which
// the modules of strangers are compiled ([Child]), and policies that are
// replaced while they answer ([Live]).
//
// Call [Loader.Load]. A program that sets Loader.Child calls [MaybeChild] first
// thing in main.
package runtime
