// A subscription list that never forgets, in Go: each round adds 64 KiB in blocks of 1 KiB.
// Reads a number of rounds per line, and answers with the resident anonymous memory in KiB.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

var subscribers [][]byte

//go:noinline
func subscribe() {
	block := make([]byte, 1024)
	for at := range block {
		block[at] = 1
	}
	subscribers = append(subscribers, block)
}

//go:noinline
func serve(rounds int) {
	for round := 0; round < rounds; round++ {
		for block := 0; block < 64; block++ {
			subscribe()
		}
	}
}

func residentKiB() string {
	status, _ := os.ReadFile("/proc/self/status")
	for _, line := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(line, "RssAnon:") {
			return strings.Fields(line)[1]
		}
	}
	return "0"
}

func main() {
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		rounds, _ := strconv.Atoi(lines.Text())
		serve(rounds)
		fmt.Println(residentKiB())
	}
}
