/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the NVMe passthrough selftests share: which devices a test may touch,
 * sending a command through io_uring or through the ioctl, checks, KTAP.
 */
#ifndef NVME_TEST_H
#define NVME_TEST_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
#include <liburing.h>
#include <linux/nvme_ioctl.h>
#include <linux/types.h>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#endif

#ifndef fallthrough
#define fallthrough __attribute__((__fallthrough__))
#endif
#ifndef __printf
#define __printf(a, b) __attribute__((format(printf, a, b)))
#endif
#ifndef __noreturn
#define __noreturn __attribute__((noreturn))
#endif

#define NT_PAGE 4096

/* the unprivileged user of the test bed; any other system has a uid 1000 too */
#define NT_TESTER 1000

enum {
	NVME_CSI_NVM = 0x00,
	NVME_CSI_KV = 0x01,
	NVME_CSI_ZNS = 0x02,
	NVME_CSI_ECHO = 0x30,	/* unassigned, as the test bed uses it */
};

enum {
	NVME_ADMIN_GET_LOG = 0x02,
	NVME_ADMIN_IDENTIFY = 0x06,
	NVME_ADMIN_SET_FEATURES = 0x09,
	NVME_ADMIN_GET_FEATURES = 0x0a,

	NVME_CMD_FLUSH = 0x00,
	NVME_CMD_WRITE = 0x01,
	NVME_CMD_READ = 0x02,
	NVME_CMD_COMPARE = 0x05,
	NVME_CMD_WRITE_ZEROES = 0x08,
	NVME_CMD_DSM = 0x09,
	NVME_CMD_VERIFY = 0x0c,

	NVME_CMD_KV_STORE = 0x01,
	NVME_CMD_KV_RETRIEVE = 0x02,
	NVME_CMD_KV_LIST = 0x06,
	NVME_CMD_KV_DELETE = 0x10,
	NVME_CMD_KV_EXIST = 0x14,

	NVME_CMD_ZONE_MGMT_SEND = 0x79,
	NVME_CMD_ZONE_MGMT_RECV = 0x7a,
	NVME_CMD_ZONE_APPEND = 0x7d,

	NVME_CMD_ECHO_SEND = 0x05,
	NVME_CMD_ECHO_RECEIVE = 0x06,
};

enum {
	NVME_ID_CNS_NS = 0x00,
	NVME_ID_CNS_CTRL = 0x01,
	NVME_ID_CNS_NS_ACTIVE_LIST = 0x02,
	NVME_ID_CNS_NS_DESC_LIST = 0x03,
	NVME_ID_CNS_CS_NS = 0x05,
	NVME_ID_CNS_CS_CTRL = 0x06,
	NVME_ID_CNS_NS_ACTIVE_LIST_CS = 0x07,
	NVME_ID_CNS_NS_CS_INDEP = 0x08,
};

/* status code type and status code, without More, CRD and DNR */
enum {
	NVME_SC_MASK = 0x7ff,
	NVME_SC_SUCCESS = 0x000,
	NVME_SC_INVALID_OPCODE = 0x001,
	NVME_SC_INVALID_FIELD = 0x002,
	NVME_SC_SGL_LENGTH = 0x00f,
	NVME_SC_LBA_RANGE = 0x080,
	NVME_SC_CAP_EXCEEDED = 0x081,
	NVME_SC_KV_VALUE_SIZE = 0x085,
	NVME_SC_KV_KEY_SIZE = 0x086,
	NVME_SC_KV_NO_KEY = 0x087,
	NVME_SC_KV_KEY_EXISTS = 0x089,
	NVME_SC_INVALID_PI = 0x181,
	NVME_SC_ZONE_BOUNDARY = 0x1b8,
	NVME_SC_ZONE_FULL = 0x1b9,
	NVME_SC_ZONE_INVALID_WRITE = 0x1bc,
	NVME_SC_ZONE_INVALID_TRANSITION = 0x1bf,
	NVME_SC_GUARD_CHECK = 0x282,
	NVME_SC_APPTAG_CHECK = 0x283,
	NVME_SC_REFTAG_CHECK = 0x284,
	NVME_SC_COMPARE_FAILED = 0x285,
};

/* how a command reaches the driver */
enum nt_via {
	NT_URING,
	NT_IOCTL,
	NT_VIAS,
};

/* the form of an I/O command */
enum {
	NT_VEC = 1 << 0,	/* addr is an array of data_len struct iovec */
	NT_FIXED = 1 << 1,	/* the buffer is in registered buffer 0 */
};

/**
 * struct nt_dev - an open character device and its ring
 * @path: such as /dev/ng0n1 or /dev/nvme0
 * @sysfs: its directory in sysfs
 * @serial: serial number of its controller or subsystem
 * @fd: opened for reading and writing
 * @ring: made by the first command that goes through it
 */
struct nt_dev {
	char path[64];
	char sysfs[512];
	char serial[24];
	int fd;
	struct io_uring ring;
	bool has_ring;
};

/**
 * struct nt_ns - a namespace that the test may use
 * @dev: its own character device
 * @ctrl: a controller that has it
 * @name: SERIAL/NSID, which does not change from boot to boot
 * @nsid: namespace identifier
 * @csi: command set identifier
 * @mdts: largest transfer of the controller in bytes, 0 when there is no limit
 * @nsze: size in logical blocks, bytes for Key Value, 0 if unknown
 * @lba_size: bytes of data in a logical block (NVM and ZNS, also below)
 * @ms: bytes of metadata per logical block
 * @extended: metadata is transferred at the end of each block's data
 * @pi: protection information type
 * @testbed: the device is one of the test bed's
 */
struct nt_ns {
	struct nt_dev dev;
	struct nt_dev ctrl;
	char name[40];
	__u32 nsid;
	__u8 csi;
	__u32 mdts;
	__u64 nsze;
	__u32 lba_size;
	__u16 ms;
	bool extended;
	__u8 pi;
	bool testbed;
};

/* a case runs once per namespace and per way to send commands */
struct nt_case {
	const char *name;
	void (*run)(struct nt_ns *ns, enum nt_via via);
};

/**
 * struct nt_prog - a test program
 * @what: one line for --help
 * @wants: which namespaces it wants, for messages: "Key Value"
 * @fits: does the program want this namespace? NULL if all
 * @serial: how the serial numbers of the test bed's controllers begin that it
 *	is for, NULL: the ordinary ones
 * @usage: one line per option of its own for --help, or NULL
 * @option: handle an option of its own, false if unknown, or NULL
 */
struct nt_prog {
	const char *what;
	const char *wants;
	bool (*fits)(const struct nt_ns *ns);
	const char *serial;
	const char *usage;
	bool (*option)(const char *arg);
};

/* Programs. nt_run() is all of main() for most. */
int nt_run(int argc, char **argv, const struct nt_prog *prog,
	   const struct nt_case *cases, size_t n);
void nt_init(int argc, char **argv, const struct nt_prog *prog);
struct nt_ns *nt_namespaces(size_t *n);
struct nt_dev *nt_controllers(size_t *n);
const char *nt_via_name(enum nt_via via);
void nt_plan(unsigned int n);
bool nt_pass_over(void);
__printf(3, 4)
void nt_test(void (*run)(void *arg), void *arg, const char *fmt, ...);
int nt_end(void);
__printf(1, 2) void nt_note(const char *fmt, ...);
__printf(1, 2) __noreturn void nt_skip_all(const char *fmt, ...);
__printf(1, 2) __noreturn void nt_die(const char *fmt, ...);

/* Ends of a case, from anywhere below it. */
__printf(1, 2) __noreturn void nt_fail(const char *fmt, ...);
__printf(1, 2) __noreturn void nt_skip(const char *fmt, ...);

/* Checks. They say what they got and what they wanted and end the case. */
#define nt_eq(got, want)	nt_eq_at(__FILE__, __LINE__, #got, got, want)
#define nt_status(got, want)	nt_status_at(__FILE__, __LINE__, #got, got, want)
#define nt_same(got, want, n)	nt_same_at(__FILE__, __LINE__, #got, got, want, n)
void nt_eq_at(const char *file, int line, const char *what,
	      unsigned long long got, unsigned long long want);
void nt_status_at(const char *file, int line, const char *what, int got,
		  int want);
void nt_same_at(const char *file, int line, const char *what, const void *got,
		const void *want, size_t n);

/* Devices. */
bool nt_serial(const char *sysfs, char *serial, size_t size);
void nt_open_ns(struct nt_ns *ns, const char *path);
void nt_close_ns(struct nt_ns *ns);
void nt_open(struct nt_dev *dev, const char *path);
void nt_close(struct nt_dev *dev);
bool nt_find_node(const struct nt_dev *ctrl, __u32 nsid, struct nt_dev *node);
pid_t nt_fork(void (*run)(void *arg), void *arg);
void nt_as(uid_t uid, void (*run)(void *arg), void *arg);
int nt_open_as(const struct nt_dev *dev, uid_t uid, int flags);

/*
 * Commands. All return the status without More, CRD and DNR, which are up to
 * the device, or a negative errno.
 */
int nt_io_form(struct nt_ns *ns, enum nt_via via, unsigned int form,
	       struct nvme_uring_cmd *cmd, __u64 *result);
int nt_io(struct nt_ns *ns, enum nt_via via, struct nvme_uring_cmd *cmd,
	  __u64 *result);
int nt_admin(struct nt_ns *ns, enum nt_via via, struct nvme_uring_cmd *cmd,
	     __u64 *result);
int nt_dev_uring(struct nt_dev *dev, __u32 op, unsigned int form,
		 const struct nvme_uring_cmd *cmd, __u64 *result);
int nt_dev_ioctl(int fd, unsigned long op, const struct nvme_uring_cmd *cmd,
		 __u64 *result);
int nt_identify(int fd, __u8 cns, __u8 csi, __u32 nsid, void *data);
int nt_csi(int fd, __u32 nsid, __u8 *csi);
int nt_effects(int fd, __u8 csi, __u32 *iocs);
void nt_need_opcode(struct nt_ns *ns, __u8 opcode, const char *name);
int nt_rw(struct nt_ns *ns, enum nt_via via, __u8 opcode, __u64 lba,
	  unsigned int blocks, void *data, void *metadata, __u64 *result);

/* A Key Value command: nothing but the key is checked or changed. */
struct nt_key {
	__u8 len;
	__u8 bytes[16];
};

int nt_kv(struct nt_ns *ns, enum nt_via via, __u8 opcode, __u8 option,
	  const struct nt_key *key, void *data, __u32 len, __u64 *result);
unsigned int nt_kv_list(struct nt_ns *ns, enum nt_via via,
			const struct nt_key *from, struct nt_key *keys,
			unsigned int max);
void nt_kv_empty(struct nt_ns *ns, enum nt_via via);

/* Memory: gone when the case ends, filled with NT_POISON. */
#define NT_POISON 0xa5
void *nt_alloc(size_t size, size_t page_offset);
__u64 nt_random(__u64 *state);
void nt_fill(void *data, size_t len, __u64 seed);

static inline __u16 nt_le16(const void *p)
{
	__u16 v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline __u32 nt_le32(const void *p)
{
	__u32 v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline __u64 nt_le64(const void *p)
{
	__u64 v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

#endif /* NVME_TEST_H */
