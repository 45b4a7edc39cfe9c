// A counter table that never forgets, in Java: each round adds 64 KiB in arrays of 1 KiB.
// Reads a number of rounds per line, and answers with the resident anonymous memory in KiB.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

public class Leak {
    static final List<byte[]> COUNTERS = new ArrayList<>();

    static void count() {
        byte[] counters = new byte[1008];
        counters[0] = 1;
        COUNTERS.add(counters);
    }

    static void serve(int rounds) {
        for (int round = 0; round < rounds; round++) {
            for (int block = 0; block < 64; block++) {
                count();
            }
        }
    }

    static String residentKiB() throws Exception {
        for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
            if (line.startsWith("RssAnon:")) {
                return line.split("\\s+")[1];
            }
        }
        return "0";
    }

    public static void main(String[] arguments) throws Exception {
        System.out.println("ready");
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            serve(Integer.parseInt(line));
            System.out.println(residentKiB());
        }
    }
}
