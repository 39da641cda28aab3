package tee

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/trustedmcp/tmcp/evidence/attester"
	"github.com/trustedmcp/tmcp/evidence/nitro"
)

// nsmIoctl is _IOWR(0x0A, 0, struct nsm_raw) of the kernel's
// include/uapi/linux/nsm.h.
const nsmIoctl = 0xC0200A00

// nsmRaw is struct nsm_raw: two iovecs, for the request and the response. The
// kernel sets the length of the response.
type nsmRaw struct {
	request, response struct{ addr, len uint64 }
}

// nsmDevice is an open Nitro Security Module.
type nsmDevice struct{ f *os.File }

func openNSM(path string) (attester.Module, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &nsmDevice{f}, nil
}

func (d *nsmDevice) Close() error { return d.f.Close() }

// Send sends one request. The kernel serialises them.
func (d *nsmDevice) Send(request []byte) ([]byte, error) {
	if len(request) == 0 || len(request) > nitro.MaxRequest {
		return nil, fmt.Errorf("a request of %d bytes, want 1 to %d", len(request), nitro.MaxRequest)
	}
	response := make([]byte, nitro.MaxResponse)
	var pin runtime.Pinner
	defer pin.Unpin()
	pin.Pin(&request[0])
	pin.Pin(&response[0])
	var raw nsmRaw
	raw.request.addr, raw.request.len = uint64(uintptr(unsafe.Pointer(&request[0]))), uint64(len(request))
	raw.response.addr, raw.response.len = uint64(uintptr(unsafe.Pointer(&response[0]))), uint64(len(response))
	c, err := d.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var errno syscall.Errno
	err = c.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, nsmIoctl, uintptr(unsafe.Pointer(&raw)))
	})
	if err != nil {
		return nil, err
	}
	if errno != 0 {
		return nil, os.NewSyscallError("ioctl", errno)
	}
	if raw.response.len > uint64(len(response)) {
		return nil, fmt.Errorf("the kernel tells of a response of %d bytes in a buffer of %d", raw.response.len, len(response))
	}
	return response[:raw.response.len], nil
}
