#include "tls_context.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shim/base/config.h"
#include "agent/runtime/agent_memory.h"
#include "tls_library.h"
#include "agent/runtime/trusted_path.h"

enum { FILE_MAX = 1 << 20 }; /* a bundle of all the public authorities is a quarter of it */

struct pem_file {
  const char *variable, *path;
  char *bytes;
  size_t size;
};

struct fault {
  char *text;
  size_t size;
};

static bool fail(const struct pem_file *file, struct fault fault, const char *what) {
  snprintf(fault.text, fault.size, "%s: %s %s", file->variable, file->path, what);
  return false;
}

static const char *open_error(int error) {
  switch (error) { /* strerror may translate, and then allocates */
    case ENOENT: return "cannot be opened: no such file";
    case ENOTDIR: return "cannot be opened: a part of the path is no directory";
    case EACCES: return "cannot be opened: permission denied";
    case EMFILE:
    case ENFILE: return "cannot be opened: out of descriptors";
    default: return "cannot be opened";
  }
}

static bool read_file(struct pem_file *file, struct fault fault) {
  if (!*file->path) {
    snprintf(fault.text, fault.size, "PPROFAGENT_TLS_ADDR is set, but %s is not", file->variable);
    return false;
  }
  struct trusted_path_fault why;
  int descriptor = trusted_path_open(file->path, &why);
  if (descriptor < 0) return fail(file, fault, *why.text ? why.text : open_error(errno));
  struct stat status;
  const char *what = NULL;
  if (fstat(descriptor, &status) != 0) what = "cannot be read";
  else if (status.st_size > FILE_MAX) what = "is longer than 1 MiB";
  else if (!(file->bytes = agent_malloc((size_t)status.st_size + 1)))
    what = "cannot be read: out of memory";
  while (!what && file->size < (size_t)status.st_size) {
    ssize_t size = read(descriptor, file->bytes + file->size, (size_t)status.st_size - file->size);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) what = "cannot be read";
    if (size <= 0) break;
    file->size += (size_t)size;
  }
  close(descriptor);
  return what ? fail(file, fault, what) : true;
}

static void forget_file(struct pem_file *file) {
  if (file->bytes) explicit_bzero(file->bytes, file->size);
  agent_free(file->bytes);
  file->bytes = NULL;
  file->size = 0;
}

/* OpenSSL's own would ask at the terminal. */
static int no_password(char *password, int size, int writing, void *data) {
  (void)password, (void)size, (void)writing, (void)data;
  return -1;
}

/* Why OpenSSL refused something (its ERR_GET_REASON). */
static const char *refusal(const char *otherwise) {
  enum {
    CA_KEY_TOO_SMALL = 397,
    CA_MD_TOO_WEAK = 398,
    EE_KEY_TOO_SMALL = 399,
    MALLOC_FAILURE = 65
  };
  switch (tls_library.ERR_peek_last_error() & 0xfff) {
    case CA_KEY_TOO_SMALL:
    case EE_KEY_TOO_SMALL: return "has a key that is too short for OpenSSL's security level";
    case CA_MD_TOO_WEAK:
      return "is signed by a digest that is too weak for OpenSSL's security level";
    case MALLOC_FAILURE: return "cannot be used: out of memory";
    default: return otherwise;
  }
}

/* Every certificate of a file: the first goes to first(), the others to others(). Each takes it and
 * returns true, or leaves it. */
typedef bool certificate_user(struct ssl_ctx_st *context, struct x509_st *certificate);

static bool read_certificates(const struct pem_file *file, struct ssl_ctx_st *context,
                              certificate_user *first, certificate_user *others,
                              struct fault fault) {
  struct bio_st *source = tls_library.BIO_new_mem_buf(file->bytes, (int)file->size);
  if (!source) return fail(file, fault, "cannot be read: out of memory");
  enum { NO_START_LINE = 108 };
  const char *what = NULL;
  for (certificate_user *use = first; !what; use = others) {
    tls_library.ERR_clear_error();
    struct x509_st *certificate = tls_library.PEM_read_bio_X509(source, NULL, no_password, NULL);
    if (certificate) {
      if (use(context, certificate)) continue;
      what = refusal("cannot be used");
      tls_library.X509_free(certificate);
    } else if (use == first) {
      what = "has no certificate in PEM form";
    } else if ((tls_library.ERR_peek_last_error() & 0xfff) == NO_START_LINE) {
      break;
    } else {
      what = "has a broken certificate in it";
    }
  }
  tls_library.BIO_free(source);
  tls_library.ERR_clear_error();
  return what ? fail(file, fault, what) : true;
}

static bool use_own(struct ssl_ctx_st *context, struct x509_st *certificate) {
  if (tls_library.SSL_CTX_use_certificate(context, certificate) != 1) return false;
  tls_library.X509_free(certificate); /* it is counted */
  return true;
}

static bool use_intermediate(struct ssl_ctx_st *context, struct x509_st *certificate) {
  return tls_library.SSL_CTX_ctrl(context, SSL_CTRL_EXTRA_CHAIN_CERT, 0, certificate) == 1;
}

static bool use_authority(struct ssl_ctx_st *context, struct x509_st *certificate) {
  if (tls_library.X509_STORE_add_cert(tls_library.SSL_CTX_get_cert_store(context), certificate) !=
          1 ||
      tls_library.SSL_CTX_add_client_CA(context, certificate) != 1)
    return false;
  tls_library.X509_free(certificate);
  return true;
}

/* Two functions, because read_certificates knows the first by its address. */
static bool use_further_authority(struct ssl_ctx_st *context, struct x509_st *certificate) {
  return use_authority(context, certificate);
}

static bool read_key(const struct pem_file *file, struct ssl_ctx_st *context, struct fault fault) {
  struct bio_st *source = tls_library.BIO_new_mem_buf(file->bytes, (int)file->size);
  struct evp_pkey_st *key =
      source ? tls_library.PEM_read_bio_PrivateKey(source, NULL, no_password, NULL) : NULL;
  bool fits = key && tls_library.SSL_CTX_use_PrivateKey(context, key) == 1 &&
              tls_library.SSL_CTX_check_private_key(context) == 1;
  bool was_read = key != NULL;
  tls_library.EVP_PKEY_free(key);
  tls_library.BIO_free(source);
  tls_library.ERR_clear_error();
  if (!was_read) return fail(file, fault, "has no private key in PEM form, or one with a password");
  return fits ? true
              : fail(file, fault,
                     "is not the key of the certificate that PPROFAGENT_TLS_CERT names");
}

static struct ssl_ctx_st *make_context(void) {
  struct ssl_ctx_st *context = tls_library.SSL_CTX_new(tls_library.TLS_server_method());
  if (!context) return NULL;
  tls_library.SSL_CTX_ctrl(context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
  tls_library.SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, SSL_SESS_CACHE_OFF, NULL);
  tls_library.SSL_CTX_ctrl(context, SSL_CTRL_MODE,
                           SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS,
                           NULL);
  tls_library.SSL_CTX_set_options(
      context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  tls_library.SSL_CTX_set_num_tickets(context, 0);
  tls_library.SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
  return context;
}

enum { CERTIFICATE, KEY, CLIENT_CA, FILES };

/* As they were when the program started; for when it has given up the user or the root directory
 * that could read them. */
static struct pem_file at_start[FILES];

static void name_files(struct pem_file files[FILES]) {
  files[CERTIFICATE] =
      (struct pem_file){.variable = "PPROFAGENT_TLS_CERT", .path = config.tls_certificate};
  files[KEY] = (struct pem_file){.variable = "PPROFAGENT_TLS_KEY", .path = config.tls_key};
  files[CLIENT_CA] =
      (struct pem_file){.variable = "PPROFAGENT_TLS_CLIENT_CA", .path = config.tls_client_ca};
}

void tls_context_at_start(void) {
  char reason[256];
  int error = errno;
  name_files(at_start);
  for (int i = 0; i < FILES; i++)
    if (!read_file(&at_start[i], (struct fault){reason, sizeof reason})) forget_file(&at_start[i]);
  errno = error;
}

/* As it is now, or else as it was at the start. */
static bool read_now(struct pem_file *file, const struct pem_file *before, struct fault fault) {
  if (read_file(file, fault)) return true;
  forget_file(file);
  if (!before->bytes || !(file->bytes = agent_malloc(before->size + 1))) return false;
  file->size = before->size;
  memcpy(file->bytes, before->bytes, file->size);
  return true;
}

struct ssl_ctx_st *tls_context_read(char *reason, size_t reason_size) {
  struct pem_file files[FILES];
  struct fault fault = {reason, reason_size};
  struct ssl_ctx_st *context = make_context();
  bool done = context != NULL;
  name_files(files);
  if (!context) snprintf(reason, reason_size, "OpenSSL makes no context: out of memory");
  for (int i = 0; i < FILES && done; i++) done = read_now(&files[i], &at_start[i], fault);
  done = done &&
         read_certificates(&files[CERTIFICATE], context, use_own, use_intermediate, fault) &&
         read_key(&files[KEY], context, fault) &&
         read_certificates(&files[CLIENT_CA], context, use_authority, use_further_authority, fault);
  for (int i = 0; i < FILES; i++) forget_file(&files[i]);
  if (done) return context;
  if (context) tls_library.SSL_CTX_free(context);
  return NULL;
}
